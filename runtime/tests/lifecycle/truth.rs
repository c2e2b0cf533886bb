//! What is to hold of a round in the end, and of everything that a report says.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use annulus::{During, Ended, Failure, Report, Stopped};

use crate::LONG;
use crate::lock;
use crate::plan::Act;
use crate::round::{Round, name};

impl Round {
    /// What a stop, an abort or a join says agrees with itself.
    pub(crate) fn ended(&self, ended: &Result<Report, Stopped>, is_patient: bool) {
        let report = match ended {
            Ok(report) => report,
            Err(stopped) => &stopped.report,
        };
        let is_overdue = |ended: &Ended| matches!(ended, Ended::Overdue);
        let mut ends = report.stages.iter().map(|stage| &stage.ended);
        if !ends.clone().any(is_overdue) {
            assert!(report.adds_up(), "{report:#?}");
        }
        match ended {
            Ok(_) => assert!(
                ends.all(|end| matches!(end, Ended::Drained | Ended::Detached(_) | Ended::Aborted)),
                "{report:#?}"
            ),
            Err(stopped) => {
                assert!(!stopped.to_string().is_empty(), "{report:#?}");
                assert!(
                    !(is_patient && self.plan.is_harmless() && !self.plan.kept),
                    "nothing was to go wrong: {stopped}: {report:#?}"
                );
            }
        }
    }

    pub(crate) fn check_logs(&self) -> String {
        let published = lock(&self.published);
        let all_seen: Vec<_> = (self.logs.iter())
            .map(|log| {
                let entries = log.entries();
                let seen = entries.seen.iter().map(|(sequence, _)| *sequence);
                seen.collect::<BTreeSet<_>>()
            })
            .collect();
        for (index, log) in self.logs.iter().enumerate() {
            let entries = log.entries();
            assert!(entries.wrong.is_empty(), "{index}: {:?}", entries.wrong);
            let built = u64::from(entries.built);
            let calls = (entries.started, entries.stopped, entries.dropped);
            assert_eq!(calls, (built, built, built), "{index}");
            let handled = &entries.handled;
            assert!(handled.is_sorted_by(|one, next| one < next), "{handled:?}");
            // Everything is as it was published, and has been with the stages before and no others.
            let before = self.plan.all_before(index);
            let changers = before
                .iter()
                .filter(|&&stage| self.plan.stages[stage].changes);
            let mine = u64::from(self.plan.stages[index].changes) << index;
            for (sequence, event) in &entries.seen {
                let author = published.get(sequence);
                assert_eq!(author, Some(&(event.author, event.nth)), "at {sequence}");
                let had = |stage: &&usize| all_seen[**stage].contains(sequence);
                let had_by: u64 = changers.clone().filter(had).map(|stage| 1 << stage).sum();
                assert_eq!(event.had_by & !mine, had_by, "{index} at {sequence}");
            }
        }
        "dropped".into()
    }

    pub(crate) fn check(&self, report: &Report) -> String {
        assert!(report.adds_up(), "{report:#?}");
        assert_eq!(report.more_failures, 0, "{report:#?}");
        let dropped: u64 = report.feeds.iter().map(|feed| feed.dropped).sum();
        assert_eq!(dropped, self.dropped.load(Ordering::Relaxed));
        let published = lock(&self.published);
        let acts = self.plan.threads.iter().flatten().copied();
        let acts: Vec<_> = acts
            .chain(
                self.plan
                    .stages
                    .iter()
                    .filter_map(|stage| Some(stage.act?.1)),
            )
            .collect();
        let mut life = Vec::new();
        for (position, stage) in report.stages.iter().enumerate() {
            let index = self.plan.listed[position];
            assert_eq!(stage.name, name(index));
            let plan = &self.plan.stages[index];
            let entries = self.logs[index].entries();
            assert_eq!(stage.handled, entries.handled.len() as u64, "{stage:#?}");
            assert_eq!(stage.failed, entries.given_up.len() as u64, "{stage:#?}");
            assert_eq!(stage.metrics.events, stage.handled);
            if plan.decides.is_some() {
                // Who wants another try when the pipeline is over gets none, and the stage ends.
                let refused = u64::from(stage.metrics.restarts < entries.again);
                assert_eq!(
                    stage.metrics.restarts + refused,
                    entries.again,
                    "{stage:#?}"
                );
                let has_failed = matches!(stage.ended, Ended::Failed(_));
                assert!(refused == 0 || has_failed, "{stage:#?}");
            }
            // It has come to the first so many of what was published, and to all of that.
            let start = report.published - stage.published;
            let next = report.published - stage.left;
            let come_to = published.range(start..next).map(|(sequence, _)| *sequence);
            let mut done = [entries.handled.clone(), entries.given_up.clone()].concat();
            done.sort_unstable();
            assert_eq!(done, come_to.collect::<Vec<_>>(), "{stage:#?}");

            let failures = report.failures.iter();
            let mine = failures.filter(|failure| failure.stage == stage.name);
            let is_kept =
                |failure: &Arc<Failure>| mine.clone().any(|mine| Arc::ptr_eq(mine, failure));
            life.push(match &stage.ended {
                Ended::Drained => {
                    assert_eq!(stage.left, 0, "{stage:#?}");
                    // Where nothing fails it is known exactly.
                    assert!(!entries.holding || !plan.faults.is_empty(), "{stage:#?}");
                    "drained"
                }
                Ended::Aborted => {
                    let cuts = |act: &Act| match act {
                        Act::Abort => true,
                        Act::Stop(within) => *within < LONG,
                        _ => false,
                    };
                    assert!(acts.iter().any(cuts) || self.plan.kept, "{stage:#?}");
                    "aborted"
                }
                Ended::Failed(failure) => {
                    assert!(is_kept(failure), "{failure}");
                    "failed"
                }
                Ended::Detached(failure) => {
                    assert!(is_kept(failure), "{failure}");
                    "detached"
                }
                Ended::Stopped(failure) => {
                    assert_ne!(failure.stage, stage.name);
                    let mut failed = report.stages.iter().map(|stage| &stage.ended);
                    assert!(
                        failed.any(|ended| matches!(ended, Ended::Failed(other) if Arc::ptr_eq(other, failure))),
                        "{report:#?}"
                    );
                    "stopped"
                }
                Ended::Poisoned(poisoned) => {
                    let is_planned =
                        |act: &Act| matches!(act, Act::Poison(reason) if *reason == poisoned.reason);
                    assert!(acts.iter().any(is_planned), "{stage:#?}");
                    "poisoned"
                }
                other => panic!("{other:?}: {stage:#?}"),
            });
            let letters = mine
                .filter(|failure| failure.during == During::Event)
                .count();
            assert!(letters >= entries.given_up.len(), "{:?}", report.failures);
        }
        life.sort_unstable();
        life.dedup();
        life.join(", ")
    }
}
