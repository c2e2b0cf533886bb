//! Named points of the creation of a ring, at which tests end or stop who reaches them; those of the ring itself are
//! in `annulus-ring`. In a normal build there is nothing here: they are compiled in under `cfg(failpoints)`.

/// A point in the creation of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(
    not(failpoints),
    expect(unreachable_pub, reason = "public where it does something")
)]
pub enum Creation {
    /// A directory for it is made, and is not yet everybody's, nor has its name.
    Directory,
    /// The memory is allocated.
    Allocate,
    /// The ring is made, and has no name yet.
    Format,
    /// The ring has its name.
    Link,
}

#[cfg(not(failpoints))]
pub(crate) fn reach(_: Creation) {}

#[cfg(failpoints)]
mod hook {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::Creation;

    type Hook = Rc<dyn Fn(Creation)>;

    thread_local! {
        static HOOK: RefCell<Option<Hook>> = RefCell::new(None);
    }

    /// Calls `hook` at each point of a creation that this thread reaches from now on; it may end the process there.
    pub fn at_each_point_of_creation(hook: impl Fn(Creation) + 'static) {
        HOOK.with(|slot| *slot.borrow_mut() = Some(Rc::new(hook)));
    }

    pub(crate) fn reach(point: Creation) {
        let hook = HOOK.with(|slot| slot.borrow().clone());
        if let Some(hook) = hook {
            hook(point);
        }
    }
}

#[cfg(failpoints)]
pub use hook::at_each_point_of_creation;
#[cfg(failpoints)]
pub(crate) use hook::reach;
