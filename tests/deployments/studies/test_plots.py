"""Plots of a study: nothing that stands beside a bar is cut off."""

import io

import numpy as np
import PIL.Image

from client.schema_studies import StudyResults
from deployments.studies import plots


def test_a_ratio_of_many_digits_stays_inside_the_picture() -> None:
    row = {
        "a": "preset=tiny,until=v2v", "b": "preset=tiny,until=i2v", "criterion": "overall", "good": 182, "same": 7,
        "bad": 3, "ratio": 1118.9, "ratio_interval": [1009.4, 1164.0], "preference": 0.97,
        "preference_interval": [0.93, 0.99], "preference_untied": 0.98, "preference_untied_interval": [0.95, 1.0],
        "p_value": 0.001, "verdict": "a", "missing": 0,
    }  # fmt: skip
    results = StudyResults.model_validate({
        "id": "study_1", "object": "study.results", "title": "t", "digest": "0", "votes": 192, "raters": 8,
        "comparisons": [row], "prompts": [], "agreement": [], "quality": [], "ranking": [], "numbers": [],
        "side_bias": {"left": 93, "right": 92, "p_value": 1.0}, "between": [], "notes": [],
    })  # fmt: skip
    picture = np.asarray(PIL.Image.open(io.BytesIO(plots.bars(results))).convert("L"))
    assert picture[:, -2:].min() == 255
