//! The declarations from which both the code and the IDL are made, so that the two cannot differ.

/// One field as the IDL shows it.
#[cfg(feature = "idl-build")]
pub struct Field {
    pub name: &'static str,
    pub ty: &'static str,
    pub docs: &'static [&'static str],
}

/// The IDL's type of a field: the declared one, or the one after `as` where the wire form is a number.
#[cfg(feature = "idl-build")]
macro_rules! idl_type {
    ($ty:ty) => {
        stringify!($ty)
    };
    ($ty:ty, $shown:ident) => {
        stringify!($shown)
    };
}

/// A fixed-size account: `#[repr(C)]` without padding, so that the bytes are Borsh's as well.
macro_rules! account {
    ($(#[doc = $doc:literal])* pub struct $name:ident { $($(#[doc = $fdoc:literal])* $field:ident : $ty:ty $(as $shown:ident)?,)* }
     $(then $(#[doc = $tdoc:literal])* $tail:ident)?) => {
        $(#[doc = $doc])*
        #[derive(Clone)]
        #[repr(C)]
        pub struct $name {
            /// Anchor's account discriminator.
            pub discriminator: [u8; 8],
            $($(#[doc = $fdoc])* pub $field: $ty,)*
        }

        impl $name {
            /// `sha256("account:Name")[..8]`.
            pub const DISCRIMINATOR: [u8; 8] = $crate::digest::discriminator(concat!("account:", stringify!($name)));
            /// Bytes of the fixed part, discriminator included.
            pub const LEN: usize = core::mem::size_of::<Self>();
        }

        // INVARIANT: no padding - the IDL's packed layout and this one are the same bytes.
        const _: () = assert!(core::mem::size_of::<$name>() == 8 $(+ core::mem::size_of::<$ty>())*);
        const _: () = assert!(core::mem::align_of::<$name>() <= 8 && core::mem::size_of::<$name>() % 8 == 0);

        #[cfg(feature = "idl-build")]
        impl $name {
            pub fn idl() -> $crate::idl::Struct {
                #[allow(unused_mut)]
                let mut fields = vec![$($crate::declare::Field {
                    name: stringify!($field), ty: idl_type!($ty $(, $shown)?), docs: &[$($fdoc),*],
                },)*];
                $(
                    // The count before the bytes is the last fixed field; Borsh's `bytes` is both.
                    fields.pop();
                    fields.push($crate::declare::Field { name: stringify!($tail), ty: "bytes", docs: &[$($tdoc),*] });
                )?
                $crate::idl::Struct { name: stringify!($name), discriminator: Some(Self::DISCRIMINATOR), docs: vec![$($doc),*], fields }
            }
        }
    };
}

/// An event: discriminator and fields in Borsh's bytes, written to the log as `Program data:`.
macro_rules! events {
    ($($(#[doc = $doc:literal])* pub struct $name:ident { $($(#[doc = $fdoc:literal])* $field:ident : $ty:ty $(as $shown:ident)?,)* })*) => {
        $(
            $(#[doc = $doc])*
            pub struct $name { $($(#[doc = $fdoc])* pub $field: $ty,)* }

            impl $name {
                /// `sha256("event:Name")[..8]`.
                pub const DISCRIMINATOR: [u8; 8] = $crate::digest::discriminator(concat!("event:", stringify!($name)));

                /// Writes the event to the transaction's log.
                #[inline(always)]
                pub fn emit(self) {
                    #[repr(C, packed)]
                    struct Wire { discriminator: [u8; 8], $($field: $ty,)* }
                    let wire = Wire { discriminator: Self::DISCRIMINATOR, $($field: self.$field,)* };
                    // SAFETY: packed, so every byte of `wire` is a field's.
                    let bytes = unsafe {
                        core::slice::from_raw_parts(&wire as *const Wire as *const u8, core::mem::size_of::<Wire>())
                    };
                    $crate::sys::log_data(bytes);
                }
            }
        )*

        #[cfg(feature = "idl-build")]
        pub fn idl() -> Vec<$crate::idl::Struct> {
            vec![$($crate::idl::Struct {
                name: stringify!($name),
                discriminator: Some($name::DISCRIMINATOR),
                docs: vec![$($doc),*],
                fields: vec![$($crate::declare::Field {
                    name: stringify!($field), ty: idl_type!($ty $(, $shown)?), docs: &[$($fdoc),*],
                },)*],
            },)*]
        }
    };
}

/// The accounts of an instruction, in order. Flags are checked as the accounts are taken apart; seeds are for the IDL,
/// and the handler checks addresses from what the accounts hold.
macro_rules! accounts {
    ($($(#[doc = $doc:literal])* $name:ident : $flags:expr, [$($seed:expr),*];)*) => {
        /// The accounts of this instruction.
        pub struct Accounts<'a> {
            $($(#[doc = $doc])* pub $name: &'a mut pinocchio::AccountView,)*
        }

        impl<'a> Accounts<'a> {
            #[inline(always)]
            fn parse(ctx: &$crate::instructions::Ctx<'_>, accounts: &'a mut [pinocchio::AccountView]) -> Result<Self, pinocchio::error::ProgramError> {
                #[allow(unused_imports)]
                use $crate::instructions::flags::*;
                let [$($name,)*] = accounts else {
                    return Err($crate::error::GovernanceError::WrongAccountCount.into());
                };
                $($crate::instructions::flags::check($name, const { $flags }, ctx.program_id)?;)*
                Ok(Self { $($name,)* })
            }
        }

        #[cfg(feature = "idl-build")]
        pub fn idl_accounts() -> Vec<$crate::idl::Account> {
            #[allow(unused_imports)]
            use $crate::{idl::Seed::*, instructions::flags::*};
            vec![$($crate::idl::Account {
                name: stringify!($name), flags: $flags, seeds: vec![$($seed),*], docs: &[$($doc),*],
            },)*]
        }
    };
}

/// The IDL's type of what follows the fixed arguments: `string` unless another one is named.
#[cfg(feature = "idl-build")]
macro_rules! tail_type {
    () => {
        "string"
    };
    ($ty:ident) => {
        stringify!($ty)
    };
}

/// The arguments of an instruction: fixed-size Borsh fields and, after `then`, at most one string (or `: bytes`).
macro_rules! args {
    ($(#[doc = $doc:literal])* pub struct Args { $($(#[doc = $fdoc:literal])* $field:ident : $ty:ty $(as $shown:ident)?,)* } $(then $(#[doc = $tdoc:literal])* $tail:ident $(: $tail_ty:ident)?)?) => {
        /// The arguments of this instruction, as they are on the wire.
        #[repr(C, packed)]
        pub struct Args { $($(#[doc = $fdoc])* pub $field: $ty,)* }

        impl Args {
            /// The fixed part and the bytes after it.
            #[inline(always)]
            #[allow(dead_code)]
            fn split(data: &[u8]) -> Result<(&Self, &[u8]), pinocchio::error::ProgramError> {
                let (fixed, rest) = data
                    .split_at_checked(core::mem::size_of::<Self>())
                    .ok_or($crate::error::GovernanceError::InvalidArguments)?;
                // SAFETY: `fixed` has the size, packed fields need no alignment, and every field takes any bytes.
                Ok((unsafe { &*(fixed.as_ptr() as *const Self) }, rest))
            }

            /// The arguments; an error when bytes are missing or left over.
            #[inline(always)]
            #[allow(dead_code)]
            fn parse(data: &[u8]) -> Result<&Self, pinocchio::error::ProgramError> {
                match Self::split(data)? {
                    (args, []) => Ok(args),
                    _ => Err($crate::error::GovernanceError::InvalidArguments.into()),
                }
            }
        }

        #[cfg(feature = "idl-build")]
        pub fn idl_args() -> Vec<$crate::declare::Field> {
            vec![
                $($crate::declare::Field { name: stringify!($field), ty: idl_type!($ty $(, $shown)?), docs: &[$($fdoc),*] },)*
                $($crate::declare::Field { name: stringify!($tail), ty: tail_type!($($tail_ty)?), docs: &[$($tdoc),*] },)?
            ]
        }

        #[cfg(feature = "idl-build")]
        pub fn idl_docs() -> Vec<&'static str> {
            vec![$($doc),*]
        }
    };
}

/// A closed set of byte values.
macro_rules! byte_enum {
    ($(#[doc = $doc:literal])* pub enum $name:ident { $($(#[doc = $vdoc:literal])* $variant:ident = $value:literal,)* }) => {
        $(#[doc = $doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum $name { $($(#[doc = $vdoc])* $variant = $value,)* }

        impl $name {
            /// The variant whose wire form is `byte`, if there is one.
            #[inline(always)]
            pub const fn from_byte(byte: u8) -> Option<Self> {
                match byte {
                    $($value => Some(Self::$variant),)*
                    _ => None,
                }
            }

            #[cfg(feature = "idl-build")]
            pub fn idl() -> $crate::idl::Enum {
                let variants: Vec<(&'static str, u8)> = vec![$((stringify!($variant), $value)),*];
                // INVARIANT: Borsh numbers variants by position.
                assert!(variants.iter().enumerate().all(|(i, (_, v))| i == usize::from(*v)));
                $crate::idl::Enum { name: stringify!($name), docs: vec![$($doc),*], variants: variants.iter().map(|(n, _)| *n).collect() }
            }
        }
    };
}
