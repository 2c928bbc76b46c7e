"""The experiments of `recurrax compare`, which set many of its options at once."""

from __future__ import annotations

from typing import NamedTuple


class Experiment(NamedTuple):
    """A question, and the options of the command that ask it."""

    question: str
    words: str  # as they stand on a command line


EXPERIMENTS = {
    "adding": Experiment(
        "Which cells add two numbers that are up to 100 steps back?",
        "--task adding --length 100 --cells elman,elman-uniform,lstm,gru,irnn --cures clip "
        "--steps 10000 --rate 0.005,irnn=0.0003",
    ),
    "exploding": Experiment(
        "Does a network whose gradient explodes train without clipping, and with it?",
        "--task adding --length 20 --cells elman-exploding --cures none,clip --steps 60000 "
        "--optimizer sgd --rate 0.1 --report-every 1000",
    ),
    "clipping": Experiment(
        "Does clipping help a network whose gradient vanishes?",
        "--task adding --length 100 --cells elman,elman-uniform --cures none,clip --steps 10000 "
        "--rate 0.005",
    ),
    "copying": Experiment(
        "Which beginnings let an LSTM recall ten symbols after 200 steps?",
        "--task copying --length 200 --cells lstm,lstm-forget,lstm-chrono --cures clip "
        "--steps 5000 --hidden 64 --rate 0.01",
    ),
    "digits": Experiment(
        "Which cells tell handwritten digits that they read pixel by pixel?",
        "--task digits --cells elman,lstm,gru --cures clip --steps 2000 --batch 64 --hidden 64 "
        "--rate 0.005,elman=0.001",
    ),
}
