//! Who creates a ring ends half way: the name is free, or the ring is whole.

use std::fs;
use std::os::unix::fs::MetadataExt;

use annulus_ipc::{Cause, Creation, Directory, Segment};

use crate::combination::{Combination, Fate, Point};
use crate::company::Company;
use crate::member::{Event, ring};
use crate::process::Process;
use crate::program::place_of;

pub(crate) fn d3_d16_a_creator_ends_at_each_point(combination: &Combination) {
    let mut place = place_of(combination.number);
    let is_new = combination.point == Point::Creation(Creation::Directory);
    if is_new {
        // One that is not there yet, in one that is.
        fs::create_dir_all(&place.directory).expect("it is ours");
        place.directory.push(format!("new-{}", combination.number));
    }
    let directory = Directory::at(&place.directory);
    let mut other = Process::start_beside(&place);
    other.arm(combination);
    let order = format!(
        "create {:?} {:?}",
        combination.producers, combination.layout
    );
    other.tell(&order);
    other.has_reached(combination);

    let is_named = combination.point == Point::Creation(Creation::Link);
    let names = directory.names().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(names.contains(&place.name), is_named, "{names:?}");
    let opened = directory.open::<Event>(&place.name);
    let ring = if is_named {
        opened.unwrap_or_else(|error| panic!("it has its name, and is not whole: {error}"))
    } else {
        let error = opened.expect_err("it has no name");
        assert!(matches!(error.cause, Cause::NotFound), "{error}");
        let builder = Segment::builder(ring(combination.producers, combination.layout));
        let created = builder.directory(directory).create(&place.name);
        created.unwrap_or_else(|error| panic!("its name is not free: {error}"))
    };
    let mode = fs::metadata(&place.directory).expect("it is there").mode();
    assert!(!is_new || mode & 0o7777 == 0o1777, "others are shut out");
    if combination.fate == Fate::Stopped {
        other.go_on();
        if is_named {
            other.has_done(&order);
        } else {
            other.has_refused("taken");
        }
    }
    let new = is_new.then(|| place.directory.clone());
    let mut company = Company::around(ring, place, combination);
    company.joins("journal", "");
    company.go_on();
    company.make_room_for_others();
    if let Some(new) = new {
        fs::remove_dir(new).expect("nothing is left in it");
    }
}
