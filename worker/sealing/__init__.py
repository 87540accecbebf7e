"""Sealing secrets to public keys with age, and opening sealed records with the identities."""
