"""Enrols a whole Amazon Cognito user pool in TOTP multi-factor authentication."""
