"""The requests to Cognito: the call, sign-ins, activation; and what their answers mean."""
