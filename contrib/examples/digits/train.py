# SPDX-License-Identifier: MIT
"""Learns to read handwritten digits: 1797 real ones, 8x8 pixels each, as scikit-learn carries them.

A small network is trained by epochs, each on digits moved and turned a little, and each prints a line. What comes
out is $OUTPUT/model (./output/model when run by hand): model.joblib, and report.json with what it is worth on digits
it has never seen.
"""
import argparse
import json
import os
import pathlib
import time

import joblib
import numpy as np
from scipy.ndimage import rotate, shift
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--hidden", type=int, default=128, help="units in the hidden layer")
    parser.add_argument("--learning-rate", type=float, default=0.001)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def load():
    digits = load_digits()
    return train_test_split(digits.images / 16.0, digits.target, test_size=0.25, random_state=0,
                            stratify=digits.target)


def vary(image, random):
    """The same digit, as another hand might have put it on the paper."""
    turned = rotate(image, random.uniform(-10, 10), reshape=False, order=1, mode="grid-constant")
    return shift(turned, random.uniform(-0.7, 0.7, size=2), order=1, mode="grid-constant")


def flat(images):
    return np.reshape(images, (len(images), -1))


def train(args, train_x, train_y, test_x, test_y):
    model = MLPClassifier(hidden_layer_sizes=(args.hidden,), learning_rate_init=args.learning_rate,
                          batch_size=32, random_state=args.seed)
    random = np.random.default_rng(args.seed)
    for epoch in range(1, args.epochs + 1):
        for _ in range(4):
            order = random.permutation(len(train_x))
            varied = [vary(train_x[i], random) for i in order]
            model.partial_fit(flat(varied), train_y[order], classes=np.arange(10))
        accuracy = model.score(flat(test_x), test_y)
        print(f"epoch {epoch:2}/{args.epochs}  loss {model.loss_:.4f}  held-out accuracy {accuracy:.1%}", flush=True)
    return model


def save(model, args, accuracy):
    directory = pathlib.Path(os.environ.get("OUTPUT", "output"), "model")
    directory.mkdir(parents=True, exist_ok=True)
    joblib.dump(model, directory / "model.joblib")
    report = {"accuracy": accuracy, **vars(args)}
    (directory / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    return directory


def main():
    args = parse_args()
    train_x, test_x, train_y, test_y = load()
    print(f"{len(train_x)} digits to learn from, {len(test_x)} held out", flush=True)
    started = time.monotonic()
    model = train(args, train_x, train_y, test_x, test_y)
    accuracy = round(model.score(flat(test_x), test_y), 4)
    save(model, args, accuracy)
    print(f"{accuracy:.1%} right on held-out digits after {time.monotonic() - started:.0f} s; model saved")


if __name__ == "__main__":
    main()
