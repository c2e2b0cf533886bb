//! The derive macro of `annulus_ipc::Plain`, which re-exports it: use it from there.
#![forbid(unsafe_code)]

mod plain;

/// Describes a struct to other processes: it implements the trait of the same name.
///
/// The struct is `#[repr(C)]` or `#[repr(transparent)]`, not generic, and every field is `Plain`. The rest of
/// what the trait asks for is derived from zerocopy, which checks it: `FromBytes`, `IntoBytes` and
/// `Immutable`. Nothing that is derived here is unsafe; a wrong description could only make a ring be
/// refused, or its events be misread.
///
/// Who does not depend on `annulus-ipc` itself says where it is found, for instance
/// `#[plain(crate = annulus::ipc)]`.
///
/// # Examples
/// See the trait.
#[proc_macro_derive(Plain, attributes(plain))]
pub fn derive_plain(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = syn::parse_macro_input!(input as syn::DeriveInput);
    plain::implement(&input)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
