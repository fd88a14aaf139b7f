"""Post how a run ended to a webhook; whatever fails here is logged and fails nothing."""

import http.client
import json
import os
import urllib.error
import urllib.request

from components.shared import kubeflow
from components.shared.logs import logger

URL = "RECLLM_NOTIFY_URL"
"""Environment variable with the webhook's address, which is a secret."""

log = logger("notify")


def tell(run_id: str, state: str) -> None:
    """Post the run's pipeline, id, state, failing step and link as JSON.

    `text` says the same in a sentence, which chat programs show. What cannot be found out is "".
    """
    pipeline, step = _known(run_id, state)
    message = {
        "pipeline": pipeline,
        "run_id": run_id,
        "state": state,
        "failing_step": step,
        "link": kubeflow.link(f"runs/details/{run_id}"),
    }
    at = f" in step {step}" if step else ""
    text = f"{message['pipeline'] or 'run'} {run_id}: {state}{at} {message['link']}".strip()
    _post({**message, "text": text})


def _known(run_id: str, state: str) -> tuple[str, str]:
    """Return the run's name and failing step as the API tells them, else ""."""
    try:
        found = kubeflow.get(f"runs/{run_id}")
        return found.get("display_name", ""), kubeflow.failing_step(found) if state == "FAILED" else ""
    except Exception as error:  # whatever the API answers, the webhook is called
        log.warning("which step failed is not known: %s: %s", type(error).__name__, error)
        return "", ""


def _post(message: dict[str, str]) -> None:
    body = json.dumps(message).encode()
    try:
        request = urllib.request.Request(
            os.environ[URL], data=body, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10):
            log.info("told the webhook: %s", message["text"])
    except KeyError:
        log.warning("%s is not set; nobody is told: %s", URL, message["text"])
    except urllib.error.HTTPError as error:
        log.warning("the webhook refuses (HTTP %d): %s", error.code, message["text"])
    except (OSError, ValueError, http.client.HTTPException) as error:
        # The error's own text may hold the address.
        log.warning("the webhook cannot be reached (%s): %s", type(error).__name__, message["text"])
