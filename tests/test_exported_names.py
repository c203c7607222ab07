"""The public face: every name is there, sorted, documented, and nothing heavy is imported before it is used."""

import subprocess
import sys

import pipeline


def test_every_public_name_resolves_and_says_what_it_is() -> None:
    assert pipeline.__all__ == sorted(pipeline._HOME)
    for name in pipeline.__all__:
        value = getattr(pipeline, name)
        assert (value.__doc__ or "").strip(), f"{name} has no docstring"
    assert set(pipeline.__all__) <= set(dir(pipeline))


def test_unknown_names_are_attribute_errors() -> None:
    assert not hasattr(pipeline, "no_such_name")


def test_import_is_light_and_datasets_need_no_torch() -> None:
    code = (
        "import sys, pipeline; assert not {'torch', 'pandas'} & set(sys.modules); "
        "from pipeline import corpora, mixtures, reports, scoring, stages; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=250)
