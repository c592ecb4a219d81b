"""Estimators whose methods for new rows no program can give, each with its reason and a way out.

The compiler refuses them by name, and the table of supported estimators lists them.
"""

from __future__ import annotations

from edgeml.converters.registry import refused

refused(
    "sklearn.PatchExtractor",
    reason="its transform makes several rows of each row, and a model gives one answer a row",
    remedy="cut the images into patches before the pipeline",
)

refused(
    "sklearn.LabelBinarizer",
    "sklearn.LabelEncoder",
    "sklearn.MultiLabelBinarizer",
    reason="it encodes targets y, not rows X",
    remedy="use OrdinalEncoder or OneHotEncoder for a column of X; a classifier's own labels come back as they were",
)
