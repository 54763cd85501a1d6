//! What happened, for whoever follows the log.
use pinocchio::Address;

events! {
    /// The governance account was made.
    pub struct Initialized {
        council: Address,
        emergency: Address,
        log: Address,
        verifier: Address,
        constitution_hash: [u8; 32],
        voting_period: i64,
        threshold_bp: u16,
        quorum_bp: u16,
        vote_change_allowed: u8 as bool,
    }
    /// The bootstrap is over.
    pub struct Ratified {
        constitution_hash: [u8; 32],
        constitution_version: u32,
        total_weight: u64,
        at: i64,
    }
    /// A principle was added, amended or retired.
    pub struct PrincipleChanged {
        index: u16,
        version: u32,
        status: u8 as PrincipleStatus,
        content_hash: [u8; 32],
        constitution_hash: [u8; 32],
        constitution_version: u32,
        at: i64,
    }
    /// The constitution in force is another one; attestations for older versions are stale.
    pub struct ConstitutionAmended {
        constitution_hash: [u8; 32],
        constitution_version: u32,
        proposal: u64,
        at: i64,
    }
    /// A member was registered, weighed anew or removed (weight 0).
    pub struct MemberChanged {
        wallet: Address,
        slot: u32,
        weight: u64,
        total_weight: u64,
        from_proposal: u64,
        at: i64,
    }
    /// The parameters changed; votes that are open keep theirs.
    pub struct ParametersChanged {
        voting_period: i64,
        threshold_bp: u16,
        quorum_bp: u16,
        vote_change_allowed: u8 as bool,
        at: i64,
    }
    /// A proposal is open for votes.
    pub struct ProposalCreated {
        index: u64,
        kind: u8 as ProposalKind,
        proposer: Address,
        content_hash: [u8; 32],
        certificate_hash: [u8; 32],
        constitution_version: u32,
        total_weight: u64,
        starts_at: i64,
        ends_at: i64,
    }
    /// A member voted, or changed a vote.
    pub struct VoteCast {
        proposal: u64,
        voter: Address,
        choice: u8 as Choice,
        changed: u8 as bool,
        weight: u64,
        votes_for: u64,
        votes_against: u64,
        votes_abstain: u64,
        at: i64,
    }
    /// A vote is over.
    pub struct ProposalFinalized {
        index: u64,
        kind: u8 as ProposalKind,
        status: u8 as ProposalStatus,
        content_hash: [u8; 32],
        votes_for: u64,
        votes_against: u64,
        votes_abstain: u64,
        total_weight: u64,
        quorum_reached: u8 as bool,
        early: u8 as bool,
        at: i64,
    }
    /// A proposal was carried out.
    pub struct ProposalEnacted {
        index: u64,
        kind: u8 as ProposalKind,
        content_hash: [u8; 32],
        at: i64,
    }
    /// A policy is in force.
    pub struct PolicyEnacted {
        content_hash: [u8; 32],
        certificate_hash: [u8; 32],
        constitution_version: u32,
        proposal: u64,
        at: i64,
    }
    /// The proposer took a proposal back.
    pub struct ProposalCancelled {
        index: u64,
        at: i64,
    }
    /// A proposal's account was closed.
    pub struct ProposalClosed {
        index: u64,
        status: u8 as ProposalStatus,
        lamports: u64,
    }
    /// The verifier attested a certificate.
    pub struct Attested {
        certificate_hash: [u8; 32],
        content_hash: [u8; 32],
        constitution_version: u32,
        verifier: Address,
        at: i64,
    }
    /// The verifier took an attestation back.
    pub struct AttestationRevoked {
        certificate_hash: [u8; 32],
        content_hash: [u8; 32],
        constitution_version: u32,
        at: i64,
    }
    /// The emergency authority acted.
    pub struct EmergencyTaken {
        index: u64,
        kind: u8 as EmergencyKind,
        target: [u8; 32],
        reason_hash: [u8; 32],
        issuer: Address,
        expires_at: i64,
        at: i64,
    }
    /// An emergency action was confirmed by a vote, or ended.
    pub struct EmergencyResolved {
        index: u64,
        kind: u8 as EmergencyKind,
        status: u8 as EmergencyStatus,
        target: [u8; 32],
        expires_at: i64,
        at: i64,
    }
    /// An emergency action's account was closed.
    pub struct EmergencyClosed {
        index: u64,
        lamports: u64,
    }
    /// Bumps of an address were shown to give none.
    pub struct BumpsExcluded {
        /// The lowest of them. The instruction names the seeds, and their hash would cost as much as a bump.
        lowest: u8,
    }
    /// The transparency log's root was anchored.
    pub struct RootAnchored {
        tree_size: u64,
        root: [u8; 32],
        count: u64,
        at: i64,
    }
    /// An authority was offered to somebody; zeros take an offer back.
    pub struct AuthorityOffered {
        role: u8 as Role,
        holder: Address,
        offered_to: Address,
    }
    /// An authority has another holder.
    pub struct AuthorityAccepted {
        role: u8 as Role,
        previous: Address,
        holder: Address,
    }
}
