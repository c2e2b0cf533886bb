//! Lists of cores such as `0,2-3`, and which of them there are.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use core_affinity::CoreId;

/// Cores by number, as given on the command line; they need not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CoreList(Vec<RangeInclusive<usize>>);

impl CoreList {
    /// The cores of the list in its order, if this process may run on all of them.
    pub(crate) fn resolve(&self) -> Result<Vec<CoreId>, UnknownCore> {
        let available = core_affinity::get_core_ids().unwrap_or_default();
        self.pick(&available)
    }

    fn pick(&self, available: &[CoreId]) -> Result<Vec<CoreId>, UnknownCore> {
        // Ends at the first unknown core: a range may be longer than any list of cores.
        let numbers = self.0.iter().cloned().flatten();
        numbers
            .map(|number| {
                let core = available.iter().find(|core| core.id == number);
                core.copied().ok_or_else(|| UnknownCore {
                    number,
                    available: available.iter().map(|core| core.id).collect(),
                })
            })
            .collect()
    }
}

impl FromStr for CoreList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ranges = text.split(',').map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            match (first.parse(), last.parse()) {
                (Ok(first), Ok(last)) if first <= last => Ok(first..=last),
                _ => Err(format!(
                    "expected core numbers and ranges such as 0,1 or 0-3, found {part:?}"
                )),
            }
        });
        Ok(Self(ranges.collect::<Result<_, _>>()?))
    }
}

/// A core that this process cannot run on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct UnknownCore {
    number: usize,
    available: Vec<usize>,
}

impl fmt::Display for UnknownCore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let available: Vec<_> = self.available.iter().map(usize::to_string).collect();
        write!(
            f,
            "core {} does not exist here; available: {}",
            self.number,
            available.join(", ")
        )
    }
}

impl std::error::Error for UnknownCore {}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(text: &str) -> Result<Vec<usize>, String> {
        let available = [0, 1, 2, 5].map(|id| CoreId { id });
        let picked = text.parse::<CoreList>()?.pick(&available);
        let cores = picked.map_err(|error| error.to_string())?;
        Ok(cores.iter().map(|core| core.id).collect())
    }

    #[test]
    fn a_list_keeps_its_order() {
        assert_eq!(numbers("5,0-2,1"), Ok(vec![5, 0, 1, 2, 1]));
    }

    #[test]
    fn the_first_core_that_is_missing_is_named_with_those_available() {
        let error = numbers("0-18446744073709551615").unwrap_err();
        assert_eq!(error, "core 3 does not exist here; available: 0, 1, 2, 5");
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for text in ["", ",", "0,", "a", "2-1", "-1", "1-", "0 1", "1-2-3"] {
            assert!(text.parse::<CoreList>().is_err(), "{text:?}");
        }
    }
}
