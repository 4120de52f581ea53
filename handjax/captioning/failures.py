"""Why a picture keeps its plain caption; each failure has the status that it is counted as."""


class Failure(Exception):
    """Base of what a step of the refinement may raise: the plain caption is kept, and the batch goes on."""

    status: str


class NoAnswer(Failure):
    """A model did not answer, though asked again; asked another day it may."""

    status = "no_answer"


class BadAnswer(Failure):
    """A model answered something else than the four fields."""

    status = "invalid"


class NoHand(Failure):
    """No hand was found whose pose could be told."""

    status = "no_hand"
