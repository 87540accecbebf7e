"""Sealing secrets with age, and opening what was sealed."""
