"""The unchanged worker in virtual time, killed, stopped and deceived at every point: see ``world``."""
