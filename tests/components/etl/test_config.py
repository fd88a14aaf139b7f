import pytest

from components.etl.config import PromptsConfig, SequencesConfig
from components.shared.config import parse, to_parameter
from components.shared.errors import ConfigError
from components.shared.spark.config import SparkConfig
from components.shared.times import parse_time
from pipelines.datasets.synthetic.config import SampleConfig


@pytest.mark.parametrize(
    ("section", "values", "word"),
    [
        (SampleConfig, {"users": 0}, "users"),
        (SampleConfig, {"dirty_share": 0.95}, "dirty_share"),
        (SampleConfig, {"start": "soon"}, "start"),
        (SparkConfig, {"shuffle_partitions": 0}, "shuffle_partitions"),
        (SequencesConfig, {"min_interactions": 2}, "leave_one_out"),
        (SequencesConfig, {"split": "random"}, "split"),
        (SequencesConfig, {"action_weights": {"stare": 1.0}}, "stare"),
        (SequencesConfig, {"action_weights": {"view": -1.0}}, "view"),
        (SequencesConfig, {"max_quarantine_share": 1.5}, "max_quarantine_share"),
        (SequencesConfig, {"as_of": "31.12.2025"}, "as_of"),
        (SequencesConfig, {"core": 1}, "core"),
        (PromptsConfig, {"answer_length": 0}, "answer_length"),
        (PromptsConfig, {"max_history": -1}, "max_history"),
        (PromptsConfig, {"spark": {"cores": 3}}, "cores"),
    ],
)
def test_nonsense_is_refused_by_name(section, values, word):
    with pytest.raises(ConfigError, match=word):
        parse(section, values)


@pytest.mark.parametrize(
    "section", [SampleConfig(), SequencesConfig(), PromptsConfig()], ids=lambda s: type(s).__name__
)
def test_defaults_survive_the_way_through_kfp(section):
    assert parse(type(section), to_parameter(section)) == section


def test_times_without_a_zone_are_utc():
    assert parse_time("t", "2025-06-30T02:00").isoformat() == "2025-06-30T02:00:00+00:00"
    assert parse_time("t", "2025-06-30T02:00+02:00").isoformat() == "2025-06-30T00:00:00+00:00"
