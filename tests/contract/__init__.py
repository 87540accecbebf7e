"""What every adapter of a port must do, whatever it is made of: one suite a port, one fixture an adapter."""
