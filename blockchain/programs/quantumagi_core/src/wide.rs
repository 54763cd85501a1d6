//! 64×64→128 multiplication from 64-bit operations alone: LLVM's BPF back end has no `__multi3` and no
//! `umul.with.overflow`.

/// The exact product of `a` and `b`.
#[inline(always)]
pub const fn product(a: u64, b: u64) -> u128 {
    const LOW: u64 = 0xffff_ffff;
    let (al, ah, bl, bh) = (a & LOW, a >> 32, b & LOW, b >> 32);
    let ll = al.wrapping_mul(bl);
    let lh = al.wrapping_mul(bh);
    let hl = ah.wrapping_mul(bl);
    let hh = ah.wrapping_mul(bh);
    // None of these wraps: each partial product is below 2^64 - 2^33 + 2, and three 32-bit parts fit in 34 bits.
    let mid = (ll >> 32).wrapping_add(lh & LOW).wrapping_add(hl & LOW);
    let low = (ll & LOW) | (mid << 32);
    let high = hh.wrapping_add(lh >> 32).wrapping_add(hl >> 32).wrapping_add(mid >> 32);
    ((high as u128) << 64) | low as u128
}

/// `a * b` where it fits in 64 bits.
#[inline(always)]
pub const fn checked_mul(a: u64, b: u64) -> Option<u64> {
    let wide = product(a, b);
    if wide >> 64 == 0 {
        Some(wide as u64)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_product_is_exact_at_the_edges_and_between() {
        let mut x = 0x9e37_79b9_7f4a_7c15u64;
        let mut samples = vec![0, 1, 2, u64::from(u32::MAX), 1 << 32, u64::MAX - 1, u64::MAX, 10_000];
        for _ in 0..300 {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            samples.push(x);
        }
        for &a in &samples {
            for &b in &samples {
                assert_eq!(product(a, b), u128::from(a) * u128::from(b));
                assert_eq!(checked_mul(a, b), a.checked_mul(b));
            }
        }
    }
}
