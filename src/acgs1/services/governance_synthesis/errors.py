"""What can be refused here."""

from acgs1.core.errors import DomainError


class DraftNotFound(DomainError):
    code = "draft_not_found"
    title = "There is no such draft"


class SchemaRefused(DomainError):
    """The constitution's schema is not one, or its phrases are ambiguous."""

    code = "schema_refused"
    title = "The constitution's schema cannot be used"


class NothingToDraft(DomainError):
    """Not one sentence could be read; each one is listed with the reason."""

    code = "nothing_to_draft"
    title = "No sentence of the principles could be read as a rule"


class PoliciesRefused(DomainError):
    """The drafted or repaired policies do not validate against the schema."""

    code = "policies_refused"
    title = "The policies do not validate against the constitution's schema"


class ReportOfAnotherDraft(DomainError):
    code = "report_of_another_draft"
    title = "The report is not about this draft under its constitution"


class NothingToRepair(DomainError):
    code = "nothing_to_repair"
    title = "The report refutes nothing"


class NotRepairable(DomainError):
    """Nothing that was refuted can be repaired by a change of the policies; each reason is listed."""

    code = "not_repairable"
    title = "No change of the policies repairs what was refuted"


class InstructionNotRead(DomainError):
    """An instruction holds a sentence that became no policy; each one is listed with the reason."""

    code = "instruction_not_read"
    title = "An instruction could not be read as a rule"


class WorkflowNotFound(DomainError):
    code = "workflow_not_found"
    title = "There is no such workflow"


class WorkflowEnded(DomainError):
    code = "workflow_ended"
    title = "The workflow has completed"


class NotTheStarter(DomainError):
    code = "not_the_starter"
    title = "Only who started a workflow, or an administrator, may cancel or resume it"


class NotProvable(DomainError):
    """The prover has no verdict, or what it refutes cannot be repaired within the limit."""

    code = "not_provable"
    title = "The policies could not be proved"
