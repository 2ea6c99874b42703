"""The closed list of hazards: coded dangers of a step that need consent."""

from enum import StrEnum

from reconciler.frozen import frozen


class HazardCode(StrEnum):
    """Stable codes; `policy.allowHazards` and `--allow-hazard` take them."""

    DELETES_DATA = "DELETES_DATA"
    REWRITES_TABLE = "REWRITES_TABLE"
    ADOPTS_DATABASE_COPY = "ADOPTS_DATABASE_COPY"
    RECREATES_DATABASE = "RECREATES_DATABASE"
    NOT_TRANSACTIONAL = "NOT_TRANSACTIONAL"
    REPEATS_STATEMENT = "REPEATS_STATEMENT"
    REVERTS_CHANGE = "REVERTS_CHANGE"
    RECORDS_UNSEEN = "RECORDS_UNSEEN"
    PRIVILEGED_ROLE = "PRIVILEGED_ROLE"
    PRUNES_MANY = "PRUNES_MANY"
    BREAKS_CACHED_PLANS = "BREAKS_CACHED_PLANS"
    REMOVES_SERVICE = "REMOVES_SERVICE"


NEEDS_CONSENT = frozenset(
    {
        HazardCode.DELETES_DATA,
        HazardCode.REWRITES_TABLE,
        HazardCode.ADOPTS_DATABASE_COPY,
        HazardCode.RECREATES_DATABASE,
        HazardCode.REPEATS_STATEMENT,
        HazardCode.REVERTS_CHANGE,
        HazardCode.RECORDS_UNSEEN,
        HazardCode.PRIVILEGED_ROLE,
        HazardCode.PRUNES_MANY,
        HazardCode.REMOVES_SERVICE,
    }
)
"""The others are only shown."""


@frozen
class Hazard:
    """A danger of one step, for people (`message`) and for programs (`code`)."""

    code: HazardCode
    message: str
