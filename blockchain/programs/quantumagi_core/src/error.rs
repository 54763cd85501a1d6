//! The program's errors. Codes are stable: new ones go to the end.
use pinocchio::error::ProgramError;

macro_rules! errors {
    ($($(#[doc = $doc:literal])* $name:ident = $code:literal,)*) => {
        /// Why an instruction was refused. Codes begin at 6000, as Anchor has it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub enum GovernanceError { $($(#[doc = $doc])* $name = $code,)* }

        #[cfg(feature = "idl-build")]
        pub fn idl() -> Vec<(u32, &'static str, &'static str)> {
            vec![$(($code, stringify!($name), concat!($($doc),*).trim()),)*]
        }
    };
}

errors! {
    /// The register of principles is full
    TooManyPrinciples = 6000,
    /// A title has at most 64 bytes
    TitleTooLong = 6001,
    /// The proposal is not open for votes
    ProposalNotActive = 6002,
    /// The voting period has ended
    VotingPeriodEnded = 6003,
    /// The voting period has not ended, and a remaining vote can still change the outcome
    VotingPeriodNotEnded = 6004,
    /// Only the emergency authority may take or end an emergency action
    UnauthorizedEmergencyAction = 6005,
    /// This member has voted on this proposal
    AlreadyVoted = 6006,
    /// The wallet had no weight when the proposal was made
    NotAMember = 6007,
    /// The signer is not the authority that this instruction needs
    Unauthorized = 6008,
    /// The constitution is ratified: this change needs an accepted proposal
    ProposalRequired = 6009,
    /// The constitution is already ratified
    AlreadyRatified = 6010,
    /// The constitution is not ratified yet
    NotRatified = 6011,
    /// Ratification needs at least one active principle and one member
    BootstrapIncomplete = 6012,
    /// The proposal was not accepted
    ProposalNotAccepted = 6013,
    /// The proposal was not enacted in time
    ProposalLapsed = 6014,
    /// The proposal is of another kind than this instruction enacts
    WrongProposalKind = 6015,
    /// The proposal's content hash is not that of what is to be enacted
    ContentMismatch = 6016,
    /// There is no attestation of this policy and certificate
    AttestationMissing = 6017,
    /// The attestation is for another constitution version than the one in force
    StaleAttestation = 6018,
    /// A policy proposal names the hash of its certificate, and no other kind does
    InvalidCertificate = 6019,
    /// The activation of policies is frozen
    ActivationFrozen = 6020,
    /// The vote is open, or its outcome may still be enacted
    ProposalNotClosable = 6021,
    /// The voting period is shorter than the shortest allowed, longer than 30 days, or does not end before the emergency action
    InvalidVotingPeriod = 6022,
    /// The threshold is from 5001 to 10000 basis points
    InvalidThreshold = 6023,
    /// The quorum is from 1 to 10000 basis points
    InvalidQuorum = 6024,
    /// A weight is at least 1
    InvalidWeight = 6025,
    /// The total weight would exceed 64 bits
    WeightOverflow = 6026,
    /// The wallet is already a member
    AlreadyAMember = 6027,
    /// The member has been removed
    MemberNotActive = 6028,
    /// The last member cannot be removed after ratification
    LastMember = 6029,
    /// The register of members is full
    TooManyMembers = 6030,
    /// Too many changes of one member's weight while votes are open
    WeightChangeLimit = 6031,
    /// A title has at least one byte and is UTF-8
    InvalidTitle = 6032,
    /// The principle has been retired
    PrincipleNotActive = 6033,
    /// A choice is 0 (for), 1 (against) or 2 (abstain)
    InvalidChoice = 6034,
    /// There is no such proposal kind
    InvalidProposalKind = 6035,
    /// There is no such emergency action
    InvalidEmergencyKind = 6036,
    /// An emergency action expires within 72 hours
    InvalidExpiry = 6037,
    /// The emergency action is no longer in effect
    EmergencyNotActive = 6038,
    /// The target is already under an emergency action
    EmergencyAlreadyActive = 6039,
    /// The emergency action is still in effect
    EmergencyStillActive = 6040,
    /// The log's tree size must grow
    AnchorNotGrowing = 6041,
    /// There is no such authority
    InvalidRole = 6042,
    /// No transfer of this authority is on offer to the signer
    NoOffer = 6043,
    /// The hash or key is zero
    ZeroValue = 6044,
    /// The constitution version is not the one in force
    WrongConstitutionVersion = 6045,
    /// There is no such instruction
    UnknownInstruction = 6046,
    /// The instruction's arguments have the wrong length
    InvalidArguments = 6047,
    /// The instruction takes another number of accounts
    WrongAccountCount = 6048,
    /// An account must sign
    AccountNotSigner = 6049,
    /// An account must be writable
    AccountNotWritable = 6050,
    /// An account belongs to another program
    WrongOwner = 6051,
    /// An account is of another type
    WrongAccountType = 6052,
    /// An account is not at its program-derived address
    InvalidPda = 6053,
    /// The account exists already
    AlreadyExists = 6054,
    /// The account that the rent goes back to is another one
    WrongRentRecipient = 6055,
    /// The system program is needed here
    WrongSystemProgram = 6056,
    /// An account that this proposal needs is missing
    MissingAccount = 6057,
    /// An account is given that this proposal does not need
    UnexpectedAccount = 6058,
    /// The state would break an invariant
    InvariantViolated = 6059,
    /// The instructions sysvar is needed here
    WrongInstructionsSysvar = 6060,
    /// Somebody has voted: a proposal is taken back only before the first vote
    VotingHasBegun = 6061,
    /// The proposal is older than the last decision about the same subject
    ProposalOutdated = 6062,
    /// The last emergency action of this kind on this target ended less than 72 hours ago
    EmergencyCoolingDown = 6063,
}

impl From<GovernanceError> for ProgramError {
    #[inline(always)]
    fn from(error: GovernanceError) -> Self {
        Self::Custom(error as u32)
    }
}
