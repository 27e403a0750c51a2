"""The contract's table of who may call what. Everything else under /v1 does not exist."""

# the scopes that may call it; None: without authentication
SERVED = {
    ("PUT", "/v1/tasks/{task_id}"): {"tasks"},
    ("GET", "/v1/tasks/{task_id}"): {"tasks", "review"},
    ("POST", "/v1/tasks/query"): {"tasks", "review"},
    ("GET", "/v1/changes"): {"tasks"},
    ("POST", "/v1/tasks/{task_id}/void"): {"tasks"},
    ("POST", "/v1/tasks/{task_id}/extend"): {"tasks"},
    ("POST", "/v1/tasks/{task_id}/fence"): {"tasks"},
    ("PUT", "/v1/persons/{person_id}/reference"): {"tasks"},
    ("GET", "/v1/persons/{person_id}/reference"): {"tasks"},
    ("DELETE", "/v1/persons/{person_id}"): {"tasks"},
    ("GET", "/v1/me"): {"checkin"},
    ("GET", "/v1/consent-notice"): {"checkin"},
    ("PUT", "/v1/me/consent"): {"checkin"},
    ("DELETE", "/v1/me/consent"): {"checkin"},
    ("POST", "/v1/challenges"): {"checkin"},
    ("PUT", "/v1/challenges/{challenge_id}/burst/{n}"): {"checkin"},
    ("POST", "/v1/check-ins"): {"checkin"},
    ("GET", "/v1/check-ins/{check_in_id}"): {"checkin"},
    ("GET", "/livez"): None,
    ("GET", "/readyz"): None,
    ("GET", "/metrics"): None,
    ("GET", "/openapi.yaml"): None,
}
