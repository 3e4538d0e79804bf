"""A configuration is resolved once, validated once and written down."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest

from trainbench import configuration
from trainbench.errors import ConfigError
from trainbench.movielens.datasets import SyntheticSize
from trainbench.ncf import config
from trainbench.ncf.benchmark import NCF
from trainbench.ncf.input.former import FORMER


def test_reference_preset_is_the_v05_reference() -> None:
    reference = NCF.preset("reference")
    assert (reference.dataset, reference.target_hit_rate) == ("ml-20m", 0.635)
    assert (reference.batch_size, reference.learning_rate) == (2_048, 5e-4)
    assert (reference.beta1, reference.beta2, reference.epsilon) == (0.9, 0.999, 1e-8)
    assert (reference.mf_dim, reference.mlp_layer_sizes) == (64, (256, 256, 128, 64))
    assert (reference.train_negatives, reference.eval_negatives) == (4, 999)


def test_mlperf_preset_has_the_public_large_batch_settings() -> None:
    mlperf = NCF.preset("mlperf")
    assert (mlperf.batch_size, mlperf.learning_rate) == (65_536, 0.00281936)
    assert (mlperf.beta1, mlperf.beta2, mlperf.epsilon) == (0.0490852, 0.965095, 1.23757e-8)
    assert mlperf.max_epochs == 14


@pytest.mark.parametrize("name", config.PRESETS)
def test_every_preset_is_valid_and_survives_its_own_json(name: str) -> None:
    preset = config.validated(NCF.preset(name))
    assert config.from_json(configuration.to_json(preset)) == preset


@pytest.mark.parametrize(
    ("found", "nearest"), [("quik", "quick"), ("ml1m", "ml-1m"), ("referense", "reference")]
)
def test_an_unknown_preset_names_the_nearest(found: str, nearest: str) -> None:
    with pytest.raises(ConfigError, match=f"did you mean '{nearest}'"):
        NCF.preset(found)


def test_a_setting_changes_one_field_in_its_own_type() -> None:
    base = NCF.preset("quick")
    changed = config.with_settings(
        base,
        ["batch_size=4_096", "learning-rate=1e-3", "xla=false", "synthetic=50x60x2000x7"],
    )
    assert (changed.batch_size, changed.learning_rate, changed.xla) == (4_096, 1e-3, False)
    assert changed.synthetic == SyntheticSize(50, 60, 2_000, 7)


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ("batchsize=1", "did you mean 'batch_size'"),
        ("batch_size", "wanted key=value"),
        ("batch_size=many", "type int"),
        ("batch_size=0", "above 0"),
        ("xla=perhaps", "type bool"),
        ("beta1=1.5", "from 0 to below 1"),
        ("beta1=1", "from 0 to below 1"),
        ("beta2=0.99999999", "from 0 to below 1"),
        ("target_hit_rate=0", "or none for a run of max_epochs epochs"),
        ("target_hit_rate=1.01", "wanted a number above 0, at most 1"),
        ("target_hit_rate=much", "type float or none"),
        ("eval_negatives=9", "HR@10 is 1 without training"),
        ("precision=fp8", "unknown precision 'fp8'"),
        ("synthetic=100", "USERSxITEMSxRATINGS"),
        ("preset=quick", "unknown key 'preset'"),
        ("generator=thread", "unknown generator 'thread'"),
        ("generator_workers=0", "wanted auto or a number above 0"),
        ("generator_workers=many", "type int or auto"),
        ("lanes=1024", "wanted a value of type CHUNKxTHREADS or auto or none"),
        ("lanes=0x1", "lanes=0x1: wanted two numbers above 0"),
        ("epochs_between_evals=0", "above 0"),
        ("use_subprocess=false", "generator=external.*or generator=inline"),
        ("use-tf-logging=true", "nothing is needed: a generator prints to stderr"),
        ("redirect_logs=true", "is in generator.log"),
        ("hr_threshold=0.635", "use target_hit_rate"),
    ],
)
def test_a_bad_setting_is_one_clear_line(setting: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as caught:
        config.with_settings(NCF.preset("quick"), [setting])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "setting", ["mf_dim=8", "mlp_layer_sizes=32,16", "train_negatives=1", "eval_negatives=99"]
)
def test_closed_division_refuses_another_model_or_sampling(setting: str) -> None:
    with pytest.raises(ConfigError, match="closed division fixes it"):
        config.with_settings(NCF.preset("mlperf"), [setting])
    opened = config.with_settings(NCF.preset("mlperf"), ["division=open", setting])
    assert opened.division == "open"


def test_odd_first_mlp_size_is_refused() -> None:
    odd = replace(NCF.preset("quick"), division="open", mlp_layer_sizes=(255, 64))
    with pytest.raises(ConfigError, match="the first one even"):
        config.validated(odd)


def test_the_settings_that_made_a_configuration_make_it_again() -> None:
    base = config.quick()
    words = ["synthetic=60x80x2400", "mlp_layer_sizes=16,8", "xla=false", "division=open"]
    made = config.with_settings(base, [*words, "learning_rate=0.001", "mf_dim=8"])
    assert config.with_settings(base, configuration.settings(made, base)) == made
    assert configuration.settings(base, base) == []


FLOATS = [field.name for field in fields(config.NcfConfig) if "float" in str(field.type)]


@pytest.mark.parametrize("key", FLOATS)
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e39"])
def test_a_number_that_is_not_finite_in_float32_is_refused(key: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"{key}=.*wanted a finite number"):
        config.with_settings(NCF.preset("quick"), [f"{key}={value}"])
    broken = replace(NCF.preset("quick"), **{key: float(value)})
    with pytest.raises(ConfigError, match=f"{key}=.*wanted a finite number"):
        config.from_json(configuration.to_json(broken))


@pytest.mark.parametrize("key", ["learning_rate", "epsilon", "beta1", "target_hit_rate"])
def test_a_number_that_is_zero_in_float32_is_refused(key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key}=1e-60: .* it is 0 in float32"):
        config.with_settings(NCF.preset("quick"), [f"{key}=1e-60"])


@pytest.mark.parametrize(
    ("preset", "setting", "target"),
    [
        ("reference", "dataset=ml-1m", 0.225),
        ("ml-1m", "dataset=ml-20m", 0.635),
        ("mlperf", "dataset=ml-100k", None),
        ("reference", "dataset=ml-latest-small", 0.285),
        ("reference", "dataset=ml-10m", None),
        ("reference", "dataset=ml-25m", None),
        ("ml-1m", "dataset=ml-1m", 0.225),
        ("quick", "synthetic=100x100x2000", 0.40),
    ],
)
def test_a_dataset_brings_its_own_target_or_none(
    preset: str, setting: str, target: float | None
) -> None:
    assert config.with_settings(NCF.preset(preset), [setting]).target_hit_rate == target
    stated = config.with_settings(NCF.preset(preset), [setting, "target_hit_rate=0.5"])
    assert stated.target_hit_rate == 0.5


def test_no_target_can_be_asked_for() -> None:
    found = config.with_settings(NCF.preset("quick"), ["target_hit_rate=none"])
    assert found.target_hit_rate is None
    assert config.from_json(configuration.to_json(found)) == found


def test_lanes_are_a_size_auto_or_none() -> None:
    assert NCF.preset("reference").lanes == "auto"
    words = {"1024x1": config.Lanes(1_024, 1), "auto": "auto", "none": None}
    for word, value in words.items():
        found = config.with_settings(NCF.preset("quick"), [f"lanes={word}"])
        assert found.lanes == value
        assert config.from_json(configuration.to_json(found)) == found


@pytest.mark.parametrize("devices", ["gpu", "all"])
def test_lanes_are_refused_where_no_cpu_trains_alone(devices: str) -> None:
    with pytest.raises(ConfigError, match=f"lanes are for one CPU.*with devices={devices}"):
        config.with_settings(NCF.preset("quick"), ["lanes=1024x1", f"devices={devices}"])


def test_a_config_json_from_before_lanes_has_none() -> None:
    old = json.loads(configuration.to_json(config.quick()))
    del old["lanes"]
    assert config.from_json(json.dumps(old)).lanes is None


def test_workers_are_a_number_or_auto() -> None:
    assert NCF.preset("reference").generator_workers == "auto"
    for word, value in (("3", 3), ("auto", "auto")):
        found = config.with_settings(NCF.preset("quick"), [f"generator_workers={word}"])
        assert found.generator_workers == value
        assert config.from_json(configuration.to_json(found)) == found


@pytest.mark.parametrize(("former", "today"), [("true", "subprocess"), ("false", "inline")])
def test_a_config_json_from_before_the_choice_of_generator_is_read(former: str, today: str) -> None:
    text = configuration.to_json(replace(config.quick(), generator="subprocess"))
    old = text.replace('"generator": "subprocess"', f'"use_subprocess": {former}')
    assert config.from_json(old).generator == today


def test_no_setting_has_the_name_of_a_former_flag() -> None:
    assert not FORMER.keys() & {field.name for field in fields(config.NcfConfig)}


@pytest.mark.parametrize("name", ["mlperf", "reference", "ml-1m"])
def test_published_ratings_are_split_as_the_reference_splits_them(name: str) -> None:
    assert NCF.preset(name).tie_break == "reference"


def test_differences_name_both_values() -> None:
    found = configuration.differences(NCF.preset("ml-1m"), NCF.preset("reference"))
    assert found == {
        "dataset": ("ml-20m", "ml-1m"),
        "target_hit_rate": (0.635, 0.225),
        "max_epochs": (20, 12),
    }
