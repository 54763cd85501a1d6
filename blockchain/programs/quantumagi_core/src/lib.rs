//! `quantumagi_core`: constitutional governance as a Solana program.
//!
//! Pure rules (`rules`, `state`) compile for the host too, so that `cargo test` reaches them; what needs the
//! runtime goes through `sys`. Layouts, accounts and rules are described in `blockchain/README.md`; the IDL is
//! generated from the declarations in this crate by `idl`.
#![cfg_attr(any(target_os = "solana", target_arch = "bpf"), no_std)]

#[macro_use]
mod declare;
pub mod digest;
pub mod error;
pub mod event;
#[cfg(feature = "idl-build")]
pub mod idl;
pub mod instructions;
#[cfg(all(target_arch = "bpf", feature = "sbpf-linker"))]
mod mem;
pub mod rules;
pub mod state;
pub mod sys;
pub mod wide;

#[cfg(all(any(target_os = "solana", target_arch = "bpf"), not(feature = "no-entrypoint")))]
mod entrypoint {
    use pinocchio::{no_allocator, nostd_panic_handler, program_entrypoint};

    program_entrypoint!(crate::instructions::dispatch, 16);
    no_allocator!();
    nostd_panic_handler!();
}
