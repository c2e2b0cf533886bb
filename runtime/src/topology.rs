//! Pipelines that are described elsewhere: stages by name, for which a function has the handlers.

use annulus_ring::Ring;

use crate::pin::Placement;
use crate::pipeline::{Pipeline, StartError};
use crate::stage::{Settings, Stage};

/// The stages of a pipeline without their handlers; with the feature `serde`, to be read from a file.
///
/// # Examples
/// ```
/// use annulus::{Settings, Stage, Topology};
/// use annulus::ring::Ring;
///
/// let ring = Ring::builder(64).build(u64::default)?;
/// # #[cfg(feature = "serde")]
/// let topology: Topology = serde_json::from_str(r#"{"stages": [
///     {"name": "journal", "wait": "park"},
///     {"name": "risk", "after": ["journal"], "on_failure": {"then": "skip"}, "on_death": "release"}
/// ]}"#)?;
/// # #[cfg(not(feature = "serde"))]
/// # let topology = Topology { stages: vec![Settings::named("journal")], ..Topology::default() };
/// let pipeline = topology.on(&ring, |name| match name {
///     "journal" | "risk" => Some(Stage::each(name, |_: &u64, _| ())),
///     _ => None,
/// })?;
/// assert!(pipeline.to_mermaid().contains("journal"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields))]
pub struct Topology {
    /// The stages, in any order.
    pub stages: Vec<Settings>,
    /// Where those run that are not given a core.
    #[cfg_attr(feature = "serde", serde(default))]
    pub placement: Placement,
    /// Whether the ring ends with the pipeline; by default as [`Pipeline::owns_ring`] says.
    #[cfg_attr(feature = "serde", serde(default))]
    pub owns_ring: Option<bool>,
}

impl Topology {
    /// A pipeline of these stages, each of which `handler` makes by its name.
    ///
    /// # Errors
    /// If it has none for a name.
    ///
    /// # Examples
    /// See [`Topology`].
    pub fn on<T: Send + Sync + 'static>(
        self,
        ring: &Ring<T>,
        mut handler: impl FnMut(&str) -> Option<Stage<T>>,
    ) -> Result<Pipeline<T>, StartError> {
        let mut pipeline = Pipeline::on(ring).place(self.placement);
        if let Some(owns) = self.owns_ring {
            pipeline = pipeline.owns_ring(owns);
        }
        for settings in self.stages {
            let stage = handler(&settings.name).ok_or_else(|| StartError::NoHandler {
                stage: settings.name.clone(),
            })?;
            pipeline = pipeline.stage(stage.with_settings(settings));
        }
        Ok(pipeline)
    }
}

/// How what becomes of a stage's place by its death is written in a file: `"hold"` or `"release"`.
#[cfg(feature = "serde")]
pub(crate) fn on_death<'de, D: serde::Deserializer<'de>>(
    from: D,
) -> Result<Option<annulus_ring::OnDeath>, D::Error> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum OnDeathAs {
        Hold,
        Release,
    }
    let on_death: Option<OnDeathAs> = serde::Deserialize::deserialize(from)?;
    Ok(on_death.map(|on_death| match on_death {
        OnDeathAs::Hold => annulus_ring::OnDeath::Hold,
        OnDeathAs::Release => annulus_ring::OnDeath::Release,
    }))
}

/// How [`Start`](annulus_ring::Start) is written in a file: `"next"`, `"oldest"`, or `{"at": 7}`.
#[cfg(feature = "serde")]
#[derive(serde::Deserialize)]
#[serde(remote = "annulus_ring::Start", rename_all = "snake_case")]
pub(crate) enum StartAs {
    Next,
    Oldest,
    At(annulus_ring::Sequence),
}

/// How [`Wait`](annulus_ring::Wait) is written in a file.
#[cfg(feature = "serde")]
#[derive(serde::Deserialize)]
#[serde(
    remote = "annulus_ring::Wait",
    rename_all = "snake_case",
    deny_unknown_fields
)]
pub(crate) enum WaitAs {
    Spin,
    Yield,
    Backoff,
    Park,
    Phased {
        spins: u32,
        yields: u32,
        sleep: std::time::Duration,
    },
}
