//! From a struct to its implementation of `Plain`, or to what is wrong with it.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{
    Attribute, Data, DeriveInput, Error, Fields, Member, Path, Result, parenthesized, token,
};

/// The implementation of the trait that is found in `ipc`, unless the type says otherwise.
pub(crate) fn implement(input: &DeriveInput, ipc: Path) -> Result<TokenStream> {
    let fields = fields(&input.data)?;
    check_generics(input)?;
    check_layout(input)?;
    let ipc = said_crate(&input.attrs)?.unwrap_or(ipc);

    let ident = &input.ident;
    let name = ident.unraw().to_string();
    let descriptions = fields.members().zip(fields).map(|(member, field)| {
        let name = name_of(&member);
        let ty = &field.ty;
        // Who reads that this type is not plain is shown the field.
        let description = quote_spanned!(ty.span()=> <#ty as #ipc::Plain>::description());
        quote!((#name, ::core::mem::offset_of!(Self, #member), #description))
    });
    Ok(quote! {
        #[automatically_derived]
        impl #ipc::Plain for #ident {
            fn description() -> #ipc::Description {
                #ipc::Description::of::<Self>(#name, [#(#descriptions),*])
            }
        }
    })
}

fn fields(data: &Data) -> Result<&Fields> {
    match data {
        Data::Struct(data) => {
            for field in &data.fields {
                if let Some(attribute) = plain_attributes(&field.attrs).next() {
                    return Err(Error::new_spanned(attribute, ATTRIBUTE));
                }
            }
            Ok(&data.fields)
        }
        Data::Enum(data) => Err(Error::new(
            data.enum_token.span,
            "an enum is not plain, because another process can write bytes that are none of its variants: \
             keep an integer in the struct, and convert it with `TryFrom`",
        )),
        Data::Union(data) => Err(Error::new(
            data.union_token.span,
            "a union is not plain, because nothing says which of its fields is meant: make it a struct with \
             one field for each",
        )),
    }
}

fn check_generics(input: &DeriveInput) -> Result<()> {
    let parameters = &input.generics.params;
    if parameters.is_empty() {
        return Ok(());
    }
    Err(Error::new_spanned(
        parameters,
        "a generic type is not plain, because a ring has one layout and no lifetime: name the types and \
         lengths of the fields",
    ))
}

fn check_layout(input: &DeriveInput) -> Result<()> {
    let mut is_fixed = false;
    for attribute in &input.attrs {
        if attribute.path().is_ident("repr") {
            attribute.parse_nested_meta(|meta| {
                is_fixed |= meta.path.is_ident("C") || meta.path.is_ident("transparent");
                if meta.input.peek(token::Paren) {
                    let argument; // Of `align` or `packed`: offsets and alignment tell what it does.
                    parenthesized!(argument in meta.input);
                    argument.parse::<TokenStream>()?;
                }
                Ok(())
            })?;
        }
    }
    if is_fixed {
        return Ok(());
    }
    Err(Error::new(
        input.ident.span(),
        "a plain struct says how it lies in memory, because another program may be compiled differently: \
         add `#[repr(C)]`, or `#[repr(transparent)]` around a single field",
    ))
}

const ATTRIBUTE: &str = "`plain` is said of the whole struct, to tell where annulus-ipc is found: \
                         `#[plain(crate = platform::ipc)]`";

fn said_crate(attributes: &[Attribute]) -> Result<Option<Path>> {
    let mut path = None;
    for attribute in plain_attributes(attributes) {
        attribute.parse_nested_meta(|meta| {
            if !meta.path.is_ident("crate") {
                return Err(meta.error(ATTRIBUTE));
            }
            let said = meta.value()?.call(Path::parse_mod_style);
            path = Some(said.map_err(|error| Error::new(error.span(), ATTRIBUTE))?);
            Ok(())
        })?;
    }
    Ok(path)
}

fn plain_attributes(attributes: &[Attribute]) -> impl Iterator<Item = &Attribute> {
    attributes
        .iter()
        .filter(|attribute| attribute.path().is_ident("plain"))
}

/// As people know it: `type`, not `r#type`; the number of a field of a tuple.
fn name_of(member: &Member) -> String {
    match member {
        Member::Named(ident) => ident.unraw().to_string(),
        Member::Unnamed(index) => index.index.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn implementation_of(item: &str) -> Result<String> {
        let ipc = syn::parse_str("::annulus_ipc").unwrap();
        let tokens = implement(&syn::parse_str(item).unwrap(), ipc)?;
        Ok(tokens.to_string())
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        for (item, advice) in [
            ("#[repr(u32)] enum Side { Buy, Sell }", "`TryFrom`"),
            ("#[repr(C)] union Price { ticks: i64 }", "make it a struct"),
            ("#[repr(C)] struct Quote<T> { price: T }", "name the types"),
            (
                "#[repr(C)] struct Quote<'a> { venue: &'a str }",
                "name the types",
            ),
            ("struct Quote { price: i64 }", "add `#[repr(C)]`"),
            (
                "#[repr(align(8))] struct Quote { price: i64 }",
                "add `#[repr(C)]`",
            ),
            (
                "#[repr(C)] #[plain(name = Trade)] struct Quote { price: i64 }",
                "(crate =",
            ),
            (
                "#[repr(C)] #[plain(crate = \"ipc\")] struct Quote { price: i64 }",
                "(crate =",
            ),
            (
                "#[repr(C)] struct Quote { #[plain(crate = ipc)] price: i64 }",
                "(crate =",
            ),
        ] {
            let message = implementation_of(item).unwrap_err().to_string();
            assert!(message.contains(advice), "{item}: {message}");
        }
    }

    #[test]
    fn the_crate_is_where_it_is_said_to_be() {
        let direct = implementation_of("#[repr(C)] struct Quote { price: i64 }").unwrap();
        assert!(direct.contains("impl :: annulus_ipc :: Plain for Quote"));

        let item =
            "#[plain(crate = platform::ipc)] #[repr(C, align(64))] struct Quote { price: i64 }";
        let through_another = implementation_of(item).unwrap();
        assert!(through_another.contains("impl platform :: ipc :: Plain for Quote"));
        assert!(!through_another.contains("annulus_ipc"));
    }
}
