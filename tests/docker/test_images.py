"""The built images, run as any user id on a read-only root file system.

RECLLM_IMAGES names them: `recllm-r1/{image}:TAG`. RECLLM_RUN is the command that runs one (`docker run`).
"""

import os
import shlex
import subprocess

import pytest

pytestmark = [
    pytest.mark.containers,
    pytest.mark.skipif("RECLLM_IMAGES" not in os.environ, reason="set RECLLM_IMAGES to the images' names"),
]
IMAGES = ("spark", "trainer", "ops")
JOBS = {
    "spark": ["components.etl.sequences.job", "components.etl.prompts.job", "great_expectations"],
    "trainer": [
        "components.retrieve.job",
        "components.base_model.job",
        "components.sft.job",
        "components.grpo.job",
        "components.evaluate.job",
        "verl",
        "vllm",
    ],
    "ops": ["components.register.job", "components.evaluate.gate", "mlflow.server", "psycopg2", "boto3"],
}
SECRET = r"(password|secret|token)[^=]*=\S|://[^/@ ]+:[^/@ ]+@"
CREDENTIALS = r"find / -xdev -size +0 \( -name .netrc -o -name pip.conf -o -name .pypirc \) 2>/dev/null"
UNREADABLE = r"find /opt ! \( -perm -0004 -o -group 0 -perm -0040 \) | head"
START_SPARK = """
from components.shared.spark.config import SparkConfig
from components.shared.spark.session import session
spark = session(SparkConfig(master="local[1]", memory="1g"), "test")
assert spark.range(10).count() == 10
spark._jvm.java.lang.Class.forName("org.apache.hadoop.fs.s3a.S3AFileSystem")
"""

# CUDA's kernels are linked to the driver, which no image has: an empty library of its name lets them load.
LOAD_KERNELS = """
import ctypes, importlib, importlib.util, os, sys
import torch
names = ["_C"]
if not importlib.util.find_spec("vllm._C"):
    names = ["_C_stable_libtorch", "_moe_C_stable_libtorch"]
    os.system("g++ -shared -o /tmp/libcuda.so.1 -Wl,-soname,libcuda.so.1 -x c /dev/null")
    ctypes.CDLL("/tmp/libcuda.so.1")
    sys.setdlopenflags(os.RTLD_LAZY)
for name in names:
    importlib.import_module("vllm." + name)
"""


def run(image: str, *command: str, user: str = "12345:0") -> str:
    """Return what `command` prints in a container without a writable place but /tmp."""
    engine = shlex.split(os.environ.get("RECLLM_RUN", "docker run"))
    limits = ["--rm", "--read-only", "--tmpfs", "/tmp:rw,mode=1777", "--cap-drop=ALL", "--user", user]
    name = os.environ["RECLLM_IMAGES"].format(image=image)
    done = subprocess.run([*engine, *limits, name, *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("image", IMAGES)
def test_each_step_imports_its_job(image: str) -> None:
    modules = ["kfp.dsl.executor_main", *JOBS[image]]
    run(image, "sh", "-c", f"_KFP_RUNTIME=true python3 -c 'import {', '.join(modules)}'")


@pytest.mark.parametrize("image", IMAGES)
def test_holds_the_commit_and_no_secret(image: str) -> None:
    environment = run(image, "env")
    assert "RECLLM_GIT_COMMIT=" in environment
    run(image, "sh", "-c", f"! env | grep --ignore-case --extended-regexp '{SECRET}'")
    assert run(image, "sh", "-c", f"{CREDENTIALS} || true") == ""


@pytest.mark.parametrize("image", IMAGES)
def test_any_user_of_group_0_can_read_every_file(image: str) -> None:
    assert run(image, "sh", "-c", UNREADABLE) == ""


def test_spark_starts_for_a_user_without_a_name() -> None:
    run("spark", "python3", "-c", START_SPARK)


@pytest.mark.parametrize("image", ["spark", "ops"])
def test_the_command_line_is_there(image: str) -> None:
    assert "Usage: recllm" in run(image, "recllm", "--help")


def test_the_trainer_recommends() -> None:
    assert "Usage: recllm recommend" in run("trainer", "recllm", "recommend", "--help")
    run("trainer", "python3", "-c", "from pipelines.profile import load; load('laptop')")


def test_the_trainer_has_a_compiler_for_generated_code() -> None:
    run("trainer", "python3", "-c", "import torch; torch.compile(lambda x: x.sin() + 1)(torch.ones(4))")


def test_the_trainer_has_vllms_kernels_and_all_that_they_are_linked_to() -> None:
    run("trainer", "python3", "-c", LOAD_KERNELS)
