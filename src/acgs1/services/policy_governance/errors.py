"""What can be refused here. Refusals of the ledger's program keep the program's own names (`ledger_already_voted`, ...)."""

from acgs1.core.errors import DomainError


class NotAMember(DomainError):
    code = "not_a_member"
    title = "Only a member can do this"


class MemberExists(DomainError):
    code = "member_exists"
    title = "The person is a member already"


class InvalidWallet(DomainError):
    code = "invalid_wallet"
    title = "The address is not one that a wallet can sign for"


class WalletTaken(DomainError):
    code = "wallet_taken"
    title = "The wallet belongs to another person"


class OwnWallet(DomainError):
    """The member's key is not here; see `POST /api/v1/wallet-transactions`."""

    code = "own_wallet"
    title = "The member has to sign with their own wallet"


class WalletKeptHere(DomainError):
    code = "wallet_kept_here"
    title = "The member's wallet is kept here; there is nothing for them to sign"


class WalletTransactionNotFound(DomainError):
    code = "wallet_transaction_not_found"
    title = "There is no such transaction for this wallet"


class TransactionAltered(DomainError):
    code = "transaction_altered"
    title = "The transaction is not the one that was handed out"


class WrongSigner(DomainError):
    code = "wrong_signer"
    title = "The transaction is not signed by the member's wallet"


class TransactionExpired(DomainError):
    code = "transaction_expired"
    title = "The transaction can no longer land; ask for another"


class AmendmentTooWide(DomainError):
    code = "amendment_too_wide"
    title = "An amendment changes one principle, or the text around the principles"


class NothingToChange(DomainError):
    code = "nothing_to_change"
    title = "The proposal would change nothing"


class NotTheProposer(DomainError):
    code = "not_the_proposer"
    title = "Only the member who made the proposal can do this"


class ConstitutionUnknown(DomainError):
    code = "constitution_unknown"
    title = "constitutional_ai does not keep this constitution"


class EmergencyNotFound(DomainError):
    code = "emergency_not_found"
    title = "There is no such emergency action in effect"


class NotAPerson(DomainError):
    code = "not_a_person"
    title = "Only a person's active account with the role `member` can become a voting member"


class BundleNotFound(DomainError):
    code = "bundle_not_found"
    title = "There is no such bundle"


class CertificateRejected(DomainError):
    """The certificate is not the verifier's, or not for these policies and this constitution."""

    code = "certificate_rejected"
    title = "The certificate does not cover this bundle"


class ConstitutionNotInForce(DomainError):
    code = "constitution_not_in_force"
    title = "The bundle was proved against a constitution that is not in force"


class LedgerConflict(DomainError):
    """The ledger already holds something else: another constitution, other authorities."""

    code = "ledger_conflict"
    title = "The ledger holds something else"


class CursorLost(DomainError):
    """The ledger does not know how far it was followed: it was set up anew, or has forgotten its past."""

    code = "cursor_lost"
    title = "The ledger does not know how far it was followed"


class ProposalNotFound(DomainError):
    code = "proposal_not_found"
    title = "There is no such proposal"


class ProposalNotOpen(DomainError):
    code = "proposal_not_open"
    title = "The proposal is not open for votes"


class BundleNotAdopted(DomainError):
    code = "bundle_not_adopted"
    title = "Only a bundle that a vote has put in force can be activated"


class ActivationFrozen(DomainError):
    code = "activation_frozen"
    title = "An emergency action keeps bundles from being activated"


class NoActiveBundle(DomainError):
    code = "no_active_bundle"
    title = "No bundle is active"


class NotTheSubject(DomainError):
    code = "not_the_subject"
    title = "An agent may ask about its own actions only"


class DecisionNotFound(DomainError):
    code = "decision_not_found"
    title = "There is no such decision"


class NotApprovable(DomainError):
    code = "not_approvable"
    title = "A person's approval would not change this decision"


class RequestDiffers(DomainError):
    code = "request_differs"
    title = "The request is not the one that was decided"


class ApprovalNotFound(DomainError):
    code = "approval_not_found"
    title = "There is no such approval"


class ApprovalClosed(DomainError):
    code = "approval_closed"
    title = "The approval has been answered or has expired"


class BadEvaluation(DomainError):
    """The request does not fit the schema of the active bundle."""

    code = "bad_evaluation"
    title = "The request does not fit the schema"
