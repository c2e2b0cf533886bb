//! The derive macro of `annulus_ipc::Plain`, which re-exports it, as `annulus` does: use it from there.
#![forbid(unsafe_code)]

mod plain;

/// Describes a struct to other processes: it implements the trait of the same name.
///
/// The struct is `#[repr(C)]` or `#[repr(transparent)]`, not generic, and every field is `Plain`. The rest of
/// what the trait asks for is derived from zerocopy, which checks it: `FromBytes`, `IntoBytes` and
/// `Immutable`. Nothing that is derived here is unsafe; a wrong description could only make a ring be
/// refused, or its events be misread.
///
/// It finds the trait in the crate by which it was reached, `annulus_ipc` or `annulus`. Who calls that by another
/// name, or reaches it through a crate of their own, says where it is found, for instance
/// `#[plain(crate = platform::ipc)]`.
///
/// # Examples
/// See the trait.
#[proc_macro_derive(Plain, attributes(plain))]
pub fn derive_plain(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    derive(input, syn::parse_quote!(::annulus_ipc))
}

/// The same for `annulus`, which calls it `ipc::Plain`.
///
/// A macro does not know by which way it was reached; so there are two.
///
/// # Examples
/// See the trait.
#[proc_macro_derive(PlainOfAnnulus, attributes(plain))]
pub fn derive_plain_of_annulus(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    derive(input, syn::parse_quote!(::annulus::ipc))
}

fn derive(input: proc_macro::TokenStream, ipc: syn::Path) -> proc_macro::TokenStream {
    let input = syn::parse_macro_input!(input as syn::DeriveInput);
    plain::implement(&input, ipc)
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
