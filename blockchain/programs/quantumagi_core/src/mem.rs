//! The `mem*` symbols that LLVM may call, on the runtime's own syscalls. The platform tools bring their own;
//! `sbpf-linker` has none.
#![allow(clippy::missing_safety_doc)] // C's own contracts
use pinocchio::syscalls::{sol_memcmp_, sol_memcpy_, sol_memmove_, sol_memset_};

#[no_mangle]
pub unsafe extern "C" fn memcpy(d: *mut u8, s: *const u8, n: usize) -> *mut u8 {
    // SAFETY: the caller upholds memcpy's contract, which is the syscall's.
    unsafe { sol_memcpy_(d, s, n as u64) };
    d
}

#[no_mangle]
pub unsafe extern "C" fn memmove(d: *mut u8, s: *const u8, n: usize) -> *mut u8 {
    // SAFETY: as above.
    unsafe { sol_memmove_(d, s, n as u64) };
    d
}

#[no_mangle]
pub unsafe extern "C" fn memset(d: *mut u8, c: i32, n: usize) -> *mut u8 {
    // SAFETY: as above.
    unsafe { sol_memset_(d, c as u8, n as u64) };
    d
}

#[no_mangle]
pub unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, n: usize) -> i32 {
    let mut result = 0i32;
    // SAFETY: as above.
    unsafe { sol_memcmp_(a, b, n as u64, &mut result) };
    result
}

#[no_mangle]
pub unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, n: usize) -> i32 {
    // SAFETY: as above.
    unsafe { memcmp(a, b, n) }
}
