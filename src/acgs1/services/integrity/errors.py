"""What can be refused here."""

from acgs1.core.errors import DomainError


class EventConflict(DomainError):
    code = "event_conflict"
    title = "An event with this id and other content is already in the log"


class EventNotLoggable(DomainError):
    code = "event_not_loggable"
    title = "The event cannot become a leaf of the log"


class ServiceMismatch(DomainError):
    code = "service_mismatch"
    title = "A service logs events of its own only"


class EntryNotFound(DomainError):
    code = "entry_not_found"
    title = "The log has no such entry"


class CheckpointNotFound(DomainError):
    code = "checkpoint_not_found"
    title = "The log signed no checkpoint of this size"


class TileNotFound(DomainError):
    code = "tile_not_found"
    title = "The log has no such tile yet"


class InvalidRange(DomainError):
    code = "invalid_range"
    title = "There is no proof between these sizes"


class NotAnchored(DomainError):
    code = "not_anchored"
    title = "The entry does not stand on the ledger yet"


class NothingToAnchor(DomainError):
    code = "nothing_to_anchor"
    title = "The log is empty"


class LedgerNotReady(DomainError):
    code = "ledger_not_ready"
    title = "The ledger has no governance program to anchor in yet"


class LogHalted(DomainError):
    """The log's state contradicts something it signed before. It signs nothing more until an operator has looked."""

    code = "log_halted"
    title = "The log has stopped because its records contradict each other"


class AppealNotFound(DomainError):
    code = "appeal_not_found"
    title = "There is no such appeal"


class AppealClosed(DomainError):
    code = "appeal_closed"
    title = "The appeal has been ruled on already"


class MalformedEvidence(DomainError):
    code = "malformed_evidence"
    title = "The file is not an evidence bundle"
