//! How much memory there is for a new ring, before any of it is taken.
//!
//! A file in memory grows for as long as anything is left, and then the kernel kills processes to get more, whichever.
//! So the question comes first: what the system has available, and what each memory cgroup leaves that this process is in.
//! Others may take it meanwhile; that is not to be excluded.

use std::fs;
use std::path::{Path, PathBuf};

/// The least that there is, by any of the limits.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) bytes: u64,
    /// Whose limit it is.
    pub(crate) limit: String,
}

/// What there is for this process, if the system says.
pub(crate) fn room() -> Option<Room> {
    room_at(Path::new("/"))
}

fn room_at(root: &Path) -> Option<Room> {
    let rooms = system(root).into_iter().chain(groups(root));
    rooms.min_by_key(|room| room.bytes)
}

fn system(root: &Path) -> Option<Room> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    Some(Room {
        bytes: number_behind("MemAvailable:", &text)?.saturating_mul(1024),
        limit: "the system (MemAvailable)".to_owned(),
    })
}

/// What each memory cgroup leaves that this process is in, from its own to the highest that it can see.
fn groups(root: &Path) -> Vec<Room> {
    let read = |path| fs::read_to_string(root.join(path)).unwrap_or_default();
    let (own, mounts) = (read("proc/self/cgroup"), read("proc/self/mountinfo"));
    let trees = mounts.lines().filter_map(|mount| Tree::of(mount, &own));
    trees.flat_map(|tree| tree.rooms(root)).collect()
}

/// Memory cgroups as they are mounted.
struct Tree {
    files: &'static Files,
    mounted_at: PathBuf,
    /// The group of this process, from there on.
    own: PathBuf,
}

/// How the files of a cgroup are called.
struct Files {
    /// Of these the least counts.
    limits: &'static [&'static str],
    usage: &'static str,
    /// Names in `memory.stat` of what is used and can be had back.
    reclaimable: &'static [&'static str],
}

const SECOND_VERSION: Files = Files {
    limits: &["memory.max", "memory.high"],
    usage: "memory.current",
    reclaimable: &["inactive_file ", "active_file "],
};

const FIRST_VERSION: Files = Files {
    limits: &["memory.limit_in_bytes"],
    usage: "memory.usage_in_bytes",
    reclaimable: &["total_inactive_file ", "total_active_file "],
};

impl Tree {
    /// What this line of `mountinfo` mounts, if that is memory cgroups, for a process in these groups.
    fn of(mount: &str, own: &str) -> Option<Self> {
        // Number, parent, device, root of the mount, where it is, ... - kind, source, options.
        let (place, kind) = mount.split_once(" - ")?;
        let mut place = place.split(' ').skip(3);
        let (top, mounted_at) = (place.next()?, place.next()?);
        let mut kind = kind.split(' ');
        let (kind, options) = (kind.next()?, kind.nth(1)?);
        let (controller, files) = match kind {
            "cgroup2" => ("", &SECOND_VERSION),
            "cgroup" if options.split(',').any(|option| option == "memory") => {
                ("memory", &FIRST_VERSION)
            }
            _ => return None,
        };
        let own = own.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let mut controllers = parts.next()?.split(',');
            let path = parts.next()?;
            controllers.any(|name| name == controller).then_some(path)
        })?;
        // In a container the path can be one that is not to be seen there.
        let own = Path::new(own).strip_prefix(top).ok();
        let own = own.filter(|own| !own.starts_with(".."));
        let own = own.unwrap_or(Path::new(""));
        Some(Self {
            files,
            mounted_at: Path::new(mounted_at).strip_prefix("/").ok()?.to_owned(),
            own: own.to_owned(),
        })
    }

    fn rooms(self, root: &Path) -> Vec<Room> {
        let groups = self.own.ancestors();
        let rooms = groups.filter_map(|group| {
            let path: PathBuf = self.mounted_at.join(group).components().collect();
            let read = |file: &str| fs::read_to_string(root.join(&path).join(file)).ok();
            let limits = self.files.limits.iter();
            let limits = limits.filter_map(|file| Some((number_behind("", &read(file)?)?, file)));
            let (limit, file) = limits.min()?;
            let used = number_behind("", &read(self.files.usage)?)?;
            let stat = read("memory.stat").unwrap_or_default();
            let reclaimable = self.files.reclaimable.iter();
            let reclaimable = reclaimable.filter_map(|name| number_behind(name, &stat));
            let used = used.saturating_sub(reclaimable.sum());
            Some(Room {
                bytes: limit.saturating_sub(used),
                limit: format!("/{} ({file})", path.display()),
            })
        });
        rooms.collect()
    }
}

/// The number in the first line that starts so.
fn number_behind(start: &str, text: &str) -> Option<u64> {
    let mut rest = text.lines().filter_map(|line| line.strip_prefix(start));
    rest.next()?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Some files, in a directory that is removed with this value.
    struct Machine(PathBuf);

    impl Machine {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let process = std::process::id();
            let machine = Self(std::env::temp_dir().join(format!("annulus-{name}-{process}")));
            for (path, text) in files {
                let path = machine.0.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            machine
        }
    }

    impl Drop for Machine {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const MEMORY: (&str, &str) = (
        "proc/meminfo",
        "MemTotal:  24684100 kB\nMemFree:  100 kB\nMemAvailable:   2000 kB\n",
    );

    #[track_caller]
    fn assert_room(name: &str, files: &[(&str, &str)], bytes: u64, limit: &str) {
        let machine = Machine::new(name, files);
        let limit = limit.to_owned();
        assert_eq!(room_at(&machine.0), Some(Room { bytes, limit }));
    }

    #[test]
    fn d23_the_least_that_the_system_or_any_cgroup_of_either_version_leaves_is_what_there_is() {
        assert_eq!(room_at(Path::new("/nowhere")), None);
        assert_room("plain", &[MEMORY], 2_048_000, "the system (MemAvailable)");

        let second = [
            MEMORY,
            ("proc/self/cgroup", "1:name=systemd:/else\n0::/user/task\n"),
            (
                "proc/self/mountinfo",
                "31 23 0:28 / /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate\n",
            ),
            ("sys/fs/cgroup/user/task/memory.max", "max\n"),
            ("sys/fs/cgroup/user/task/memory.high", "max\n"),
            ("sys/fs/cgroup/user/task/memory.current", "4096\n"),
            ("sys/fs/cgroup/user/memory.max", "1000000\n"),
            ("sys/fs/cgroup/user/memory.high", "900000\n"),
            ("sys/fs/cgroup/user/memory.current", "700000\n"),
            (
                "sys/fs/cgroup/user/memory.stat",
                "anon 5\nfile 9\nshmem 3\ninactive_file 10000\nactive_file 2000\n",
            ),
        ];
        let limit = "/sys/fs/cgroup/user (memory.high)";
        assert_room("second", &second, 212_000, limit);

        // A container that sees its own group only, under a name that it cannot see.
        let first = [
            MEMORY,
            (
                "proc/self/cgroup",
                "4:cpu,cpuacct:/docker/1\n3:memory:/docker/1\n0::/\n",
            ),
            (
                "proc/self/mountinfo",
                "30 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                 32 31 0:29 /docker/1 /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
                 35 31 0:32 /docker/1 /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
            ),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "500000\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "600000\n"),
            (
                "sys/fs/cgroup/memory/memory.stat",
                "inactive_file 7\ntotal_inactive_file 150000\ntotal_active_file 0\n",
            ),
        ];
        let limit = "/sys/fs/cgroup/memory (memory.limit_in_bytes)";
        assert_room("first", &first, 50_000, limit);
    }
}
