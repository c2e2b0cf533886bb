//! R5 WAKE, with a light fence that is none to the processor: no wake-up is lost.
//!
//! To loom both fences of a wake-up are full ones. Here the steps of `ring/src/wait.rs`, "No wake-up is lost", run on a
//! small machine that has the light one as it is, and every order in which they can happen is explored:
//!
//! * A store waits in a buffer of its thread, and reaches memory at any later moment; two to different words in
//!   any order. Its own thread reads it meanwhile.
//! * A load may take its value early: before the stores, loads and branches in front of it, up to the last load that
//!   acquires, fence, or step that changes memory at once.
//! * The heavy fence is a call. At some moment between call and return it acts on each other thread, wherever that is:
//!   its buffer is written to memory, and what it has read early is forgotten.
//! * The kernel looks at the word and puts the thread to sleep in one step, and wakes all in one step.
//! * A thread that may stop does so before any of its steps, for ever; what is in its buffer still reaches memory.
//!
//! A store that passes an earlier load is not there: each of these loads acquires, or decides about the stores behind it.
//!
//! Nobody may sleep in the end who has not seen an event whose waker has done all of its steps: neither if nobody stops,
//! nor if somebody does. The programs are lists of named steps, so that a planted mistake is a change of a list, and
//! another protocol is another list.

use std::collections::HashSet;

// ---------------------------------------------------------------------------------------------
// The machine
// ---------------------------------------------------------------------------------------------

/// A word of memory, by its place.
type Word = usize;
type Value = u8;
/// One of a thread's, by its place.
type Register = usize;

type Memory = [Value; 4];
type Registers = [Value; 4];

#[derive(Clone, Copy)]
enum Op {
    Load(Word, Register),
    /// Nothing behind it is read before it.
    LoadAcquire(Word, Register),
    Store(Word, fn(&Registers) -> Value),
    /// Changes the word in memory in one step, after all stores of its thread.
    Change(Word, fn(Value, &Registers) -> Value),
    /// Changes nothing but registers.
    Compute(fn(&mut Registers)),
    /// Goes on at the first step of this name if this holds, or ends if there is none.
    GoIf(&'static str, fn(&Registers) -> bool),
    LightFence,
    FullFence,
    HeavyFence,
    /// If the word still is what the register says.
    Sleep(Word, Register),
    WakeAll,
}

impl Op {
    /// Whether nobody else sees it, nor can change what it does: it may then happen at once.
    fn is_local(self) -> bool {
        matches!(self, Self::Compute(_) | Self::GoIf(..) | Self::LightFence)
    }
}

type Program = Vec<(&'static str, Op)>;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Mode {
    Runs,
    /// Within the heavy fence, which has still to act on these threads: a bit for each.
    Fences(u8),
    Sleeps,
    Stopped,
    Ended,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Thread {
    mode: Mode,
    next: u8,
    registers: Registers,
    /// What it has stored in each word that has not reached memory.
    buffer: [Option<Value>; 4],
    /// What the load of each word that is next has read early.
    early: [Option<Value>; 4],
}

impl Thread {
    const NEW: Self = Self {
        mode: Mode::Runs,
        next: 0,
        registers: [0; 4],
        buffer: [None; 4],
        early: [None; 4],
    };

    /// What it reads in this word now.
    fn read(&self, memory: &Memory, word: Word) -> Value {
        self.buffer[word].unwrap_or(memory[word])
    }

    fn drain(&mut self, memory: &mut Memory) {
        for (word, stored) in self.buffer.iter_mut().enumerate() {
            memory[word] = stored.take().unwrap_or(memory[word]);
        }
    }

    /// A fence in the place where it is, by itself or by the kernel.
    fn fence(&mut self, memory: &mut Memory) {
        self.drain(memory);
        self.early = [None; 4];
    }

    /// The words that it could read now, ahead of what is in front of their loads.
    fn ahead(&self, program: &Program) -> Vec<Word> {
        let mut touched = [false; 4];
        let mut ahead = Vec::new();
        for (place, (_, op)) in program.iter().enumerate().skip(self.next.into()) {
            match *op {
                Op::Load(word, _) | Op::LoadAcquire(word, _) => {
                    let is_done = !touched[word] && self.early[word].is_some();
                    if !is_done && !touched[word] && place > self.next.into() {
                        ahead.push(word);
                    }
                    if !is_done && matches!(op, Op::LoadAcquire(..)) {
                        break;
                    }
                    touched[word] = true;
                }
                Op::Store(word, _) => touched[word] = true,
                _ if op.is_local() => {}
                _ => break,
            }
        }
        ahead
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct State {
    memory: Memory,
    threads: [Thread; MOST_THREADS],
}

const MOST_THREADS: usize = 4;

/// What happens to one thread.
#[derive(Clone, Copy)]
enum Event {
    Reaches(Word),
    Reads(Word),
    Fences(usize),
    Steps(&'static str),
    Stops,
}

/// Threads that run these programs on one memory.
struct Machine {
    programs: Vec<Program>,
    /// The one that may stop.
    may_stop: Option<usize>,
}

impl Machine {
    /// Goes every way, and asks where nobody can go on whether that is wrong. Returns how many states there are, or
    /// a way to a wrong one.
    fn explore(&self, is_wrong: impl Fn(&[Thread]) -> bool) -> Result<usize, String> {
        let start = State {
            memory: [0; 4],
            threads: [Thread::NEW; MOST_THREADS],
        };
        let mut seen = HashSet::from([start]);
        // Of each state on the way to where it is: the ways on that are left, and what led to it.
        let mut way = vec![(self.ways_on(&start), None)];
        while let Some((left, _)) = way.last_mut() {
            let Some((event, state)) = left.pop() else {
                way.pop();
                continue;
            };
            if !seen.insert(state) {
                continue;
            }
            let ways_on = self.ways_on(&state);
            way.push((ways_on, Some(event)));
            if way.last().is_some_and(|(ways_on, _)| ways_on.is_empty())
                && is_wrong(&state.threads[..self.programs.len()])
            {
                let events = way.into_iter().filter_map(|(_, event)| event);
                return Err(events.map(told).collect::<Vec<_>>().join(", "));
            }
        }
        Ok(seen.len())
    }

    /// All that can happen next.
    fn ways_on(&self, state: &State) -> Vec<((usize, Event), State)> {
        let mut ways = Vec::new();
        for (index, program) in self.programs.iter().enumerate() {
            let thread = &state.threads[index];
            let mut way = |event, change: &dyn Fn(&mut Memory, &mut [Thread; MOST_THREADS])| {
                let mut next = *state;
                change(&mut next.memory, &mut next.threads);
                ways.push(((index, event), next));
            };
            for (word, stored) in thread.buffer.into_iter().enumerate() {
                if let Some(value) = stored {
                    way(Event::Reaches(word), &|memory, threads| {
                        threads[index].buffer[word] = None;
                        memory[word] = value;
                    });
                }
            }
            if let Mode::Fences(to) = thread.mode {
                for other in (0..self.programs.len()).filter(|other| to & 1 << other != 0) {
                    way(Event::Fences(other), &|memory, threads| {
                        threads[other].fence(memory);
                        threads[index].mode = match to & !(1 << other) {
                            0 => Mode::Runs,
                            to => Mode::Fences(to),
                        };
                    });
                }
            }
            if thread.mode != Mode::Runs {
                continue;
            }
            for word in thread.ahead(program) {
                let value = thread.read(&state.memory, word);
                way(Event::Reads(word), &|_, threads| {
                    threads[index].early[word] = Some(value);
                });
            }
            let name = program
                .get(thread.next as usize)
                .map_or("end", |(name, _)| name);
            way(Event::Steps(name), &|memory, threads| {
                self.step(index, memory, threads);
            });
            if self.may_stop == Some(index) {
                way(Event::Stops, &|_, threads| {
                    threads[index].mode = Mode::Stopped;
                });
            }
        }
        ways
    }

    /// The next step of this thread, in its turn, and those local ones that follow.
    fn step(&self, index: usize, memory: &mut Memory, threads: &mut [Thread; MOST_THREADS]) {
        let program = &self.programs[index];
        let others = ((1 << self.programs.len()) - 1) & !(1 << index);
        loop {
            let thread = &mut threads[index];
            let registers = &mut thread.registers;
            let Some(&(_, op)) = program.get(thread.next as usize) else {
                thread.mode = Mode::Ended;
                thread.registers = [0, 0, 0, thread.registers[SEEN]]; // The rest matters no more.
                return;
            };
            thread.next += 1;
            match op {
                Op::Load(word, into) | Op::LoadAcquire(word, into) => {
                    let early = thread.early[word].take();
                    thread.registers[into] = early.unwrap_or_else(|| thread.read(memory, word));
                }
                Op::Store(word, value) => {
                    // Takes the place of an older one, which a program without mistakes has not.
                    thread.buffer[word] = Some(value(registers));
                }
                Op::Change(word, change) => {
                    thread.drain(memory);
                    memory[word] = change(memory[word], &thread.registers);
                }
                Op::Compute(compute) => compute(registers),
                Op::GoIf(name, holds) => {
                    if holds(registers) {
                        let place = program.iter().position(|(of, _)| *of == name);
                        thread.next = place.unwrap_or(program.len()) as u8;
                        thread.early = [None; 4];
                    }
                }
                Op::LightFence => {}
                Op::FullFence => thread.fence(memory),
                Op::HeavyFence => {
                    thread.fence(memory);
                    thread.mode = Mode::Fences(others);
                }
                Op::Sleep(word, expected) => {
                    if memory[word] == registers[expected] {
                        thread.mode = Mode::Sleeps;
                    }
                }
                Op::WakeAll => {
                    thread.drain(memory);
                    let asleep = threads
                        .iter_mut()
                        .filter(|thread| thread.mode == Mode::Sleeps);
                    asleep.for_each(|thread| thread.mode = Mode::Runs);
                }
            }
            let next = program.get(threads[index].next as usize);
            if !next.is_some_and(|(_, op)| op.is_local()) {
                return;
            }
        }
    }
}

fn told((thread, event): (usize, Event)) -> String {
    let what = match event {
        Event::Reaches(word) => format!("{} reaches memory", WORDS[word]),
        Event::Reads(word) => format!("reads {} early", WORDS[word]),
        Event::Fences(other) => format!("fences {other}"),
        Event::Steps(name) => name.to_owned(),
        Event::Stops => "stops".to_owned(),
    };
    format!("{thread}: {what}")
}

// ---------------------------------------------------------------------------------------------
// The protocol
// ---------------------------------------------------------------------------------------------

const WORDS: [&str; 4] = ["the flag", "the epoch", "event 0", "event 1"];

/// What says that somebody sleeps.
const FLAG: Word = 0;
/// What is raised before a wake-up.
const EPOCH: Word = 1;
/// The events of the two wakers.
const EVENTS: [Word; 2] = [2, 3];

/// The registers of a sleeper, the first of a waker too.
const LOOKED: Register = 0;
const OTHER: Register = 1;
const EXPECTED: Register = 2;
/// What a sleeper has seen of each event: a bit for each.
const SEEN: Register = 3;

/// In which order a waker does what it does when somebody sleeps.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Order {
    /// Clears the flag, raises the epoch, wakes: not what is shipped, as a waker that stops on its way is the end of it.
    ClearFirst,
    /// Raises the epoch if it is that of the flag, wakes, and clears the flag if it still is the one that it saw: it
    /// tells which epoch its sleeper read.
    WakeFirst,
}

/// Looks at all events, as the steps of this name; what is there and was not seen before is `LOOKED`.
fn look(name: &'static str) -> Program {
    let [first, second] = EVENTS;
    vec![
        (name, Op::Load(first, LOOKED)),
        (name, Op::Load(second, OTHER)),
        (
            name,
            Op::Compute(|r| r[LOOKED] = (r[LOOKED] | r[OTHER] << 1) & !r[SEEN]),
        ),
        (name, Op::GoIf("read", |r| r[LOOKED] != 0)),
    ]
}

/// Waits for each of the events, in any order, and reads them as they come.
fn sleeper(order: Order) -> Program {
    let set_flag = match order {
        Order::ClearFirst => Op::Store(FLAG, |_| 1),
        // One of an older epoch does not take the place of one of a newer.
        Order::WakeFirst => Op::Change(FLAG, |flag, r| flag.max(tag(r))),
    };
    let parts = [
        vec![
            ("S1", Op::LoadAcquire(EPOCH, EXPECTED)),
            ("S2", set_flag),
            ("S3", Op::HeavyFence),
        ],
        look("S4"),
        vec![
            ("S5", Op::Sleep(EPOCH, EXPECTED)),
            ("again", Op::GoIf("S1", |_| true)),
            ("read", Op::Compute(|r| r[SEEN] |= r[LOOKED])),
            ("forget", Op::Compute(|r| (r[LOOKED], r[OTHER]) = (0, 0))),
            ("more", Op::GoIf("S1", |r| r[SEEN] != 3)),
        ],
    ];
    parts.concat()
}

/// The flag of a sleeper that has read this epoch.
fn tag(registers: &Registers) -> Value {
    registers[EXPECTED] + 1
}

/// Publishes one event.
fn waker(order: Order, event: Word) -> Program {
    let mut steps: Program = vec![
        ("W1", Op::Store(event, |_| 1)),
        ("W2", Op::LightFence),
        ("W3", Op::Load(FLAG, LOOKED)),
        ("W3", Op::GoIf("end", |r| r[LOOKED] == 0)),
    ];
    let raise = Op::Change(EPOCH, |epoch, _| epoch + 1);
    steps.extend(match order {
        Order::ClearFirst => [
            ("W4", Op::Store(FLAG, |_| 0)),
            ("W5", raise),
            ("W6", Op::WakeAll),
        ],
        Order::WakeFirst => [
            (
                "W4",
                Op::Change(EPOCH, |epoch, r| {
                    if epoch + 1 == r[LOOKED] {
                        epoch + 1
                    } else {
                        epoch
                    }
                }),
            ),
            ("W5", Op::WakeAll),
            (
                "W6",
                Op::Change(FLAG, |flag, r| if flag == r[LOOKED] { 0 } else { flag }),
            ),
        ],
    });
    steps
}

/// Sleepers first, then wakers.
struct Scenario {
    sleepers: Vec<Program>,
    wakers: Vec<Program>,
    may_stop: Option<usize>,
}

impl Scenario {
    fn new(order: Order, sleepers: usize, wakers: usize) -> Self {
        let events = EVENTS.into_iter().take(wakers);
        Self {
            sleepers: vec![sleeper(order); sleepers],
            wakers: events.map(|event| waker(order, event)).collect(),
            may_stop: None,
        }
    }

    fn with_sleepers(mut self, change: impl Fn(Program) -> Program) -> Self {
        self.sleepers = self.sleepers.into_iter().map(change).collect();
        self
    }

    fn with_wakers(mut self, change: impl Fn(Program) -> Program) -> Self {
        self.wakers = self.wakers.into_iter().map(change).collect();
        self
    }

    fn that_may_stop(mut self, thread: usize) -> Self {
        self.may_stop = Some(thread);
        self
    }

    /// Whether nobody sleeps in the end who has not seen the event of a waker that has done all of its steps.
    fn check(self, name: &str) -> Result<usize, String> {
        let sleepers = self.sleepers.len();
        let machine = Machine {
            programs: self.sleepers.into_iter().chain(self.wakers).collect(),
            may_stop: self.may_stop,
        };
        let explored = machine.explore(|threads| {
            let (sleepers, wakers) = threads.split_at(sleepers);
            let published = (wakers.iter().zip(0..))
                .filter(|(waker, _)| waker.mode == Mode::Ended)
                .fold(0, |all, (_, event)| all | 1 << event);
            (sleepers.iter()).any(|sleeper| {
                sleeper.mode == Mode::Sleeps && published & !sleeper.registers[SEEN] != 0
            })
        });
        match &explored {
            Ok(states) => println!("model r5 {name}: {states} states"),
            Err(way) => println!("{name} loses a wake-up: {way}"),
        }
        explored
    }
}

/// Without the steps of this name.
fn without(program: Program, name: &str) -> Program {
    (program.into_iter())
        .filter(|(of, _)| *of != name)
        .collect()
}

/// With this in the place of a step.
fn with(mut program: Program, name: &str, op: Op) -> Program {
    let step = program.iter_mut().find(|(of, _)| *of == name);
    step.expect("a step of this name").1 = op;
    program
}

/// With the steps of one name behind those of another.
fn moved_behind(program: Program, name: &str, other: &str) -> Program {
    let (moved, mut rest): (Program, Program) =
        program.into_iter().partition(|(of, _)| *of == name);
    let behind = 1 + rest
        .iter()
        .rposition(|(of, _)| *of == other)
        .expect("the other step");
    rest.splice(behind..behind, moved);
    rest
}

const ORDERS: [Order; 2] = [Order::ClearFirst, Order::WakeFirst];

/// How many sleepers and wakers there are. Two of each have millions of states: for a build that is optimised, as the
/// models are run.
const SIZES: &[(usize, usize)] = if cfg!(loom) {
    &[(1, 1), (1, 2), (2, 1), (2, 2)]
} else {
    &[(1, 1), (1, 2), (2, 1)]
};

#[test]
fn no_wake_up_is_lost() {
    for order in ORDERS {
        for &(sleepers, wakers) in SIZES {
            let name = format!("light fence, {order:?}, {sleepers} sleep and {wakers} wake");
            let explored = Scenario::new(order, sleepers, wakers).check(&name);
            explored.unwrap();
        }
    }
}

/// The same where the kernel cannot be asked.
#[test]
fn no_wake_up_is_lost_between_full_fences() {
    for order in ORDERS {
        let scenario = Scenario::new(order, 1, 2)
            .with_sleepers(|sleeper| with(sleeper, "S3", Op::FullFence))
            .with_wakers(|waker| with(waker, "W2", Op::FullFence));
        scenario.check(&format!("full fences, {order:?}")).unwrap();
    }
}

/// Whoever stops, and wherever: another waker wakes who sleeps.
#[test]
fn a_thread_that_stops_keeps_nobody_asleep() {
    let (each, both) = ([(1, 2, 1), (1, 2, 2), (2, 1, 0), (2, 1, 1)], [(2, 2, 2)]);
    let both = both.iter().filter(|_| cfg!(loom));
    for &(sleepers, wakers, stops) in each.iter().chain(both) {
        let scenario = Scenario::new(Order::WakeFirst, sleepers, wakers).that_may_stop(stops);
        let name = format!("light fence, {sleepers} sleep and {wakers} wake, {stops} may stop");
        scenario.check(&name).unwrap();
    }
}

/// It has cleared the flag, so that nobody else wakes.
#[test]
fn a_waker_that_clears_first_and_stops_keeps_a_sleeper_asleep() {
    let scenario = Scenario::new(Order::ClearFirst, 1, 2).that_may_stop(1);
    scenario
        .check("a waker that clears first and stops")
        .unwrap_err();
}

#[test]
fn each_planted_mistake_loses_a_wake_up() {
    let lost = |what: &str, scenario: Scenario| {
        let found = scenario.check(what);
        assert!(found.is_err(), "{what} was not found");
    };
    for order in ORDERS {
        let scenario = || Scenario::new(order, 1, 1);
        lost("a sleeper whose fence is its own", {
            scenario().with_sleepers(|sleeper| with(sleeper, "S3", Op::FullFence))
        });
        lost("a sleeper without a fence", {
            scenario().with_sleepers(|sleeper| without(sleeper, "S3"))
        });
        lost("a sleeper that looks before its fence", {
            scenario().with_sleepers(|sleeper| moved_behind(sleeper, "S3", "S4"))
        });
        lost("a sleeper that sets its flag after its fence", {
            scenario().with_sleepers(|sleeper| moved_behind(sleeper, "S2", "S3"))
        });
        lost("a sleeper that reads the epoch after its look", {
            scenario().with_sleepers(|sleeper| moved_behind(sleeper, "S1", "S4"))
        });
        lost("a waker that looks before its store", {
            scenario().with_wakers(|waker| moved_behind(waker, "W1", "W3"))
        });
    }
    lost("a waker that clears the flag last, whatever it is", {
        let clear = Op::Store(FLAG, |_| 0);
        let scenario = Scenario::new(Order::WakeFirst, 1, 2);
        scenario.with_wakers(|waker| with(waker, "W6", clear))
    });
    lost("a flag that does not tell the epoch", {
        let set = Op::Change(FLAG, |_, _| 1);
        let scenario = Scenario::new(Order::WakeFirst, 1, 2);
        scenario.with_sleepers(|sleeper| with(sleeper, "S2", set))
    });
    lost("a waker that wakes before it raises the epoch", {
        let scenario = Scenario::new(Order::WakeFirst, 1, 1);
        scenario.with_wakers(|waker| moved_behind(waker, "W4", "W5"))
    });
    if cfg!(loom) {
        lost("a flag of an older epoch in the place of a newer one", {
            let set = Op::Change(FLAG, |_, r| tag(r));
            let scenario = Scenario::new(Order::WakeFirst, 2, 2);
            scenario.with_sleepers(|sleeper| with(sleeper, "S2", set))
        });
    }
}
