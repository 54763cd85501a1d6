//! What the program asks of the runtime. On the host the answers are computed or absent, never invented.
use crate::{error::GovernanceError, wide};
use pinocchio::{
    error::ProgramError,
    sysvars::{clock::Clock, Sysvar},
    Address,
};

#[cfg(any(target_os = "solana", target_arch = "bpf"))]
mod imp {
    use pinocchio::{
        syscalls::{sol_curve_validate_point, sol_get_sysvar, sol_log_data, sol_sha256},
        sysvars::rent::RENT_ID,
    };

    #[inline(always)]
    pub fn sha256<const N: usize>(parts: &[&[u8]; N]) -> [u8; 32] {
        let mut out = [0u8; 32];
        // SAFETY: a slice of slices is what the syscall reads, and `out` has the 32 bytes that it writes.
        unsafe { sol_sha256(parts.as_ptr() as *const u8, N as u64, out.as_mut_ptr()) };
        out
    }

    #[inline(always)]
    pub fn is_on_curve(point: &[u8; 32]) -> bool {
        const EDWARDS: u64 = 0;
        let mut unused = [0u8; 32];
        // SAFETY: the syscall reads 32 bytes at `point`; this curve writes no result, and there is room for one.
        unsafe { sol_curve_validate_point(EDWARDS, point.as_ptr(), unused.as_mut_ptr()) == 0 }
    }

    #[inline(always)]
    pub fn log_data(bytes: &[u8]) {
        let fields: [&[u8]; 1] = [bytes];
        // SAFETY: one field, as the length says.
        unsafe { sol_log_data(fields.as_ptr() as *const u8, 1) };
    }

    #[inline(always)]
    pub fn rent_sysvar(out: &mut [u8; 17]) -> bool {
        // SAFETY: the Rent sysvar is 17 bytes (bincode of u64, f64, u8), and `out` holds them.
        unsafe { sol_get_sysvar(RENT_ID.as_array().as_ptr(), out.as_mut_ptr(), 0, 17) == 0 }
    }
}

#[cfg(not(any(target_os = "solana", target_arch = "bpf")))]
mod imp {
    pub fn sha256<const N: usize>(parts: &[&[u8]; N]) -> [u8; 32] {
        crate::digest::sha256(&parts.concat())
    }
    /// The host has no curve; nothing that is tested there derives an address.
    pub fn is_on_curve(_point: &[u8; 32]) -> bool {
        true
    }
    pub fn log_data(_bytes: &[u8]) {}
    pub fn rent_sysvar(_out: &mut [u8; 17]) -> bool {
        false
    }
}

pub use imp::{log_data, sha256};

/// Seconds since the Unix epoch, by the cluster's clock.
#[inline(always)]
pub fn now() -> Result<i64, ProgramError> {
    Ok(Clock::get()?.unix_timestamp)
}

/// A program-derived address: a namespace and at most one more seed.
pub struct Pda<'a> {
    /// The namespace, such as `b"member"`.
    pub tag: &'a [u8],
    /// The seed after it; empty where there is none.
    pub key: &'a [u8],
}

impl Pda<'_> {
    /// The address that `bump` gives. 1,400 CU cheaper than the syscall, and right wherever the bump is known to be
    /// canonical: it was stored by `find`.
    #[inline(always)]
    pub fn at(&self, bump: u8, program_id: &Address) -> [u8; 32] {
        sha256(&[self.tag, self.key, &[bump], program_id.as_array(), b"ProgramDerivedAddress"])
    }

    /// The canonical address and its bump: the highest bump whose address is off the curve
    /// (`Pubkey::find_program_address`). `highest`: every bump above it has been seen to be on the curve.
    ///
    /// The bump is never taken from the caller: with a lower one, a second account of the same name could exist, or one
    /// where nobody looks for it.
    #[inline(never)]
    pub fn find(&self, highest: u8, program_id: &Address) -> Result<([u8; 32], u8), ProgramError> {
        let mut bump = highest;
        loop {
            let address = self.at(bump, program_id);
            if !imp::is_on_curve(&address) {
                return Ok((address, bump));
            }
            bump = bump.checked_sub(1).ok_or(GovernanceError::InvalidPda)?;
        }
    }
}

/// Whether every bump from `lowest` to 255 gives `seeds` (all of them, one after the other) an address on the curve, that is
/// none that a program can have. `None` where the seeds are too long.
#[inline(never)]
pub fn all_on_curve(seeds: &[u8], lowest: u8, program_id: &Address) -> Option<bool> {
    // One slice costs less to hash than five, which matters here because it is done for each bump.
    let mut bytes = [0u8; 128];
    let mut len = 0usize;
    for part in [seeds, &[0], program_id.as_array(), b"ProgramDerivedAddress"] {
        let end = len.checked_add(part.len())?;
        bytes.get_mut(len..end)?.copy_from_slice(part);
        len = end;
    }
    for bump in lowest..=u8::MAX {
        *bytes.get_mut(seeds.len())? = bump;
        if !imp::is_on_curve(&sha256(&[bytes.get(..len)?])) {
            return Some(false);
        }
    }
    Some(true)
}

/// The price of an account's bytes, from the Rent sysvar.
pub struct Rent {
    per_byte: u64,
    years: u64,
}

impl Rent {
    /// Reads the whole sysvar and so is right on both sides of SIMD-0194, which folds the exemption threshold into the
    /// price of a byte (3,480 lamports × 2.0 years before, 6,960 × 1.0 after).
    #[inline(never)]
    pub fn load() -> Result<Self, ProgramError> {
        let mut raw = [0u8; 17];
        if !imp::rent_sysvar(&mut raw) {
            return Err(ProgramError::UnsupportedSysvar);
        }
        let [p0, p1, p2, p3, p4, p5, p6, p7, y0, y1, y2, y3, y4, y5, y6, y7, _] = raw;
        let per_byte = u64::from_le_bytes([p0, p1, p2, p3, p4, p5, p6, p7]);
        let years = match u64::from_le_bytes([y0, y1, y2, y3, y4, y5, y6, y7]) {
            0x3FF0_0000_0000_0000 => 1, // 1.0_f64
            0x4000_0000_0000_0000 => 2, // 2.0_f64
            _ => return Err(ProgramError::UnsupportedSysvar),
        };
        Ok(Self { per_byte, years })
    }

    /// The lamports that make `space` bytes exempt from rent.
    #[inline(always)]
    pub fn exempt(&self, space: usize) -> Result<u64, ProgramError> {
        const STORAGE_OVERHEAD: u64 = 128;
        (space as u64)
            .checked_add(STORAGE_OVERHEAD)
            .and_then(|bytes| wide::checked_mul(bytes, self.years))
            .and_then(|byte_years| wide::checked_mul(self.per_byte, byte_years))
            .ok_or(ProgramError::ArithmeticOverflow)
    }
}
