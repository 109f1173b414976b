"""The federation's reviews, by group and plural, for the API server of a program."""

from collections.abc import Callable, Mapping

from federation.reviews.journaled import Explainer, Replayer
from federation.reviews.planning import Planner
from machinery.api.fleet.decision import DECISION_REPLAYS, PLACEMENT_EXPLANATIONS, PLACEMENT_PLANS
from machinery.kit.clock import Clock
from machinery.kit.ids import Ids
from machinery.server.app import ApiServer
from machinery.server.subresources import OwnReview


def reviews(
    server: Callable[[], ApiServer], clock: Clock, ids: Ids
) -> Mapping[tuple[str, str], OwnReview]:
    """`server` gives the API server when it is there: it is made with its reviews."""
    answers: dict[str, OwnReview] = {
        PLACEMENT_PLANS.plural: Planner(server, clock, ids).review,
        PLACEMENT_EXPLANATIONS.plural: Explainer(server).review,
        DECISION_REPLAYS.plural: Replayer(server).review,
    }
    return {(PLACEMENT_PLANS.group, plural): answer for plural, answer in answers.items()}
