"""Trains the two models of the example and writes them below the folder given.

Iris flowers: three species, four lengths in centimetres. `stable` is a logistic regression, `canary` a
random forest; everything random is seeded, so every run of this file gives the same two models.
"""

import pathlib
import sys

import joblib
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

flowers, species = load_iris(return_X_y=True)
learn, test, learn_species, test_species = train_test_split(
    flowers, species, test_size=0.3, random_state=7, stratify=species
)

models = {
    "stable": make_pipeline(StandardScaler(), LogisticRegression(max_iter=500, random_state=7)),
    "canary": RandomForestClassifier(n_estimators=60, random_state=7),
}
for name, model in models.items():
    model.fit(learn, learn_species)
    folder = pathlib.Path(sys.argv[1]) / name
    folder.mkdir(parents=True, exist_ok=True)
    joblib.dump(model, folder / "model.joblib")
    print(f"trained {name}: {model.score(test, test_species):.1%} of {len(test)} unseen flowers right", file=sys.stderr)
