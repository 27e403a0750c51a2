"""What a person consents to."""

CONSENT_SCOPES = ("face", "face_transfer", "location")
"""In the order in which they are asked for; a check-in needs all of them."""
