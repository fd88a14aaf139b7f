"""Object storage, tried by writing, reading and removing one small object."""

import os
import uuid
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from components.shared.errors import ConfigError

_REMEDIES = {
    "NoSuchBucket": "there is no such bucket; create it or correct the address",
    "404": "AWS_ENDPOINT_URL is no S3; correct it",
    "InvalidAccessKeyId": "AWS_ACCESS_KEY_ID is unknown there; is it the key of this endpoint?",
    "SignatureDoesNotMatch": "AWS_SECRET_ACCESS_KEY does not fit AWS_ACCESS_KEY_ID",
    "AccessDenied": "the key may not do that; allow it to get, put and delete objects",
    "AuthorizationHeaderMalformed": "AWS_REGION is not the bucket's",
    "PermanentRedirect": "the bucket lies in another region; set AWS_REGION",
    "301": "the bucket lies in another region; set AWS_REGION",
}


def round_trip(uri: str) -> str:
    """Return that an object below `uri` was written, read and removed. Raises ConfigError."""
    where = urlsplit(uri)
    key = f"{where.path.strip('/')}/.recllm-preflight-{uuid.uuid4().hex}".lstrip("/")
    action = "write"
    try:
        # A session of its own: the default one is not made for threads.
        client = boto3.Session(region_name=os.environ.get("AWS_REGION")).client("s3", config=_CONFIG)
        client.put_object(Bucket=where.netloc, Key=key, Body=b"preflight")
        action = "read"
        client.get_object(Bucket=where.netloc, Key=key)["Body"].read()
        action = "delete"
        client.delete_object(Bucket=where.netloc, Key=key)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        remedy = _REMEDIES.get(code, error.response["Error"].get("Message", ""))
        raise ConfigError(f"{action} refused ({code}): {remedy}") from error
    except NoCredentialsError as error:
        raise ConfigError("no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY") from error
    except (BotoCoreError, ValueError) as error:  # ValueError: an endpoint that is no address
        at = os.environ.get("AWS_ENDPOINT_URL", "AWS itself, since AWS_ENDPOINT_URL is not set")
        raise ConfigError(f"no answer from {at} ({error}); correct AWS_ENDPOINT_URL") from error
    return f"written, read and removed at {client.meta.endpoint_url}"


# Older stores know none of the checksums that boto3 adds by default.
_CONFIG = Config(
    connect_timeout=3,
    read_timeout=5,
    retries={"total_max_attempts": 1},
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
)
