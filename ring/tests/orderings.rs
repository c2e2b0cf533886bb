//! Reads the sources of the ring and checks what no lint checks.
//!
//! * **Orderings.** Every `Acquire`, `Release`, `AcqRel` and `SeqCst` has a comment of its own,
//!   `// ORDER(tag): why`, and every `Relaxed` has `// RELAXED: why`. The comment stands at the end of
//!   the line, on a line of its own inside the statement, or directly above the statement. Several in
//!   one statement are explained in the order in which they are written, so a compare-exchange has
//!   two. `ORDER(a, b)` is for one that takes part in two pairs. A comment that explains no ordering
//!   is out of date, and reported.
//! * **Tags.** Each has a releasing side and an acquiring side, and a row in the table under
//!   `# Memory orderings` in `lib.rs`; each row of that table is used.
//! * **Invariants.** The table under `# Invariants` in `lib.rs` lists them. Each `R1` in a comment is
//!   in the table; each in the table has a line `// INVARIANT R1:` where it is established.
//! * **Facade.** Only `sync.rs` names the standard library's atomics, cells, locks, hints and threads:
//!   what it does not hand out, loom does not see.
//! * **Words.** A ring has no `head` and no `tail`, no `read_index` and no `write_index`, neither in
//!   code nor in prose; only "at the head of" something is allowed.
//!
//! A statement starts after the last line above that is blank or ends with `;`, `{` or `}`. Orderings
//! in `use` items, in strings and in `sync.rs` are not uses. `Release` behind another path than
//! `Ordering::`, or in the body of an `enum`, is somebody else's name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

const FACADE: &str = "sync.rs";
const STORY: &str = "lib.rs";

/// Where something is: a file and a line, counted from 1.
type Place = (String, usize);

// ---------------------------------------------------------------------------------------------
// The rules
// ---------------------------------------------------------------------------------------------

/// Every finding in these sources, as `file:line: message`.
fn findings(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    let mut explained = Vec::new();
    for source in sources {
        if source.name != FACADE {
            explain_orderings(source, &mut explained, &mut found);
            check_facade(source, &mut found);
        }
        check_words(source, &mut found);
    }
    check_tags(&explained, sources, &mut found);
    check_invariants(sources, &mut found);
    found
}

/// An ordering together with the tags that explain it.
struct Explained {
    ordering: &'static str,
    tags: Vec<String>,
    place: Place,
}

/// Gives each ordering its comment: the one at the end of its line, or else the first above it in
/// its statement that no other ordering has.
fn explain_orderings(source: &Source, explained: &mut Vec<Explained>, found: &mut Vec<String>) {
    let mut comments: BTreeMap<usize, Explanation> = BTreeMap::new();
    for (index, line) in source.lines.iter().enumerate() {
        match line.explanation() {
            Some(Ok(explanation)) => drop(comments.insert(index, explanation)),
            Some(Err(message)) => found.push(source.finding(index, message)),
            None => {}
        }
    }

    for (index, ordering) in source.orderings(found) {
        let relaxed = ordering == "Relaxed";
        let fits = |at: &usize| comments.get(at).is_some_and(|it| it.relaxed() == relaxed);
        let above = source.statement_start(index)..index;
        let Some(at) = [index].into_iter().chain(above).find(fits) else {
            let wanted = if relaxed {
                "RELAXED: why"
            } else {
                "ORDER(tag): why"
            };
            found.push(source.finding(index, &format!("`{ordering}` without `// {wanted}`")));
            continue;
        };
        if let Some(Explanation::Order(tags)) = comments.remove(&at) {
            let place = (source.name.clone(), index + 1);
            explained.push(Explained {
                ordering,
                tags,
                place,
            });
        }
    }

    for index in comments.keys() {
        found.push(source.finding(*index, "this comment explains no ordering"));
    }
}

fn check_tags(explained: &[Explained], sources: &[Source], found: &mut Vec<String>) {
    let table = table_of(sources, "# Memory orderings");
    let mut uses: BTreeMap<&str, Vec<&Explained>> = BTreeMap::new();
    for each in explained {
        for tag in &each.tags {
            uses.entry(tag).or_default().push(each);
        }
    }

    for (tag, uses) in &uses {
        let (file, line) = &uses[0].place;
        if !table.iter().any(|(row, _)| row == tag) {
            found.push(format!(
                "{file}:{line}: tag `{tag}` is not in the table of `{STORY}`"
            ));
        }
        for (side, other) in [("releasing", "Acquire"), ("acquiring", "Release")] {
            if uses.iter().all(|each| each.ordering == other) {
                found.push(format!("{file}:{line}: tag `{tag}` has no {side} side"));
            }
        }
    }
    for (tag, (file, line)) in &table {
        if !uses.contains_key(tag.as_str()) {
            found.push(format!(
                "{file}:{line}: tag `{tag}` is listed but used nowhere"
            ));
        }
    }
}

fn check_invariants(sources: &[Source], found: &mut Vec<String>) {
    let mut listed: BTreeMap<String, Place> = BTreeMap::new();
    for (row, place) in table_of(sources, "# Invariants") {
        let (file, line) = &place;
        match row.split_once(' ') {
            Some((id, name)) if is_invariant(id) && !name.is_empty() => {
                if listed.insert(id.to_owned(), place.clone()).is_some() {
                    found.push(format!("{file}:{line}: invariant {id} is listed twice"));
                }
            }
            _ => found.push(format!(
                "{file}:{line}: `{row}` is not of the form `R1 NAME`"
            )),
        }
    }

    let mut cited = BTreeSet::new();
    let mut established = BTreeSet::new();
    for source in sources {
        let mut safety = false;
        for (index, line) in source.lines.iter().enumerate() {
            let text = line.remark().unwrap_or_default();
            safety = text.starts_with("SAFETY:") || safety && line.remark().is_some();
            let establishes = text
                .strip_prefix("INVARIANT ")
                .and_then(|it| it.split_once(':'));
            for id in words(&line.comment).filter(|word| is_invariant(word)) {
                if !listed.contains_key(id) {
                    found.push(source.finding(index, &format!("invariant {id} is not listed")));
                }
                if safety {
                    cited.insert(id);
                }
            }
            if let Some((ids, _)) = establishes {
                established.extend(words(ids).filter(|word| is_invariant(word)));
            } else if text.starts_with("INVARIANT") {
                found.push(source.finding(index, "not of the form `// INVARIANT R1: why`"));
            }
        }
    }
    for (id, (file, line)) in &listed {
        if established.contains(id.as_str()) {
            continue;
        }
        let cited = if cited.contains(id.as_str()) {
            ""
        } else {
            " never cited and"
        };
        found.push(format!(
            "{file}:{line}: invariant {id} is{cited} established nowhere"
        ));
    }
}

fn check_facade(source: &Source, found: &mut Vec<String>) {
    for (index, line) in source.lines.iter().enumerate() {
        let code: String = line.code.split_whitespace().collect();
        for module in ["sync", "cell", "thread", "hint"] {
            if code.contains(&format!("std::{module}")) || code.contains(&format!("core::{module}"))
            {
                found.push(source.finding(
                    index,
                    &format!(
                        "`std::{module}` is named in `{FACADE}` only, or loom does not see it"
                    ),
                ));
            }
        }
    }
}

fn check_words(source: &Source, found: &mut Vec<String>) {
    for (index, line) in source.lines.iter().enumerate() {
        for text in [&line.code, &line.comment] {
            let mut words = words(text).peekable();
            while let Some(word) = words.next() {
                let parts = parts(word);
                let of_something = parts == ["head"] && words.peek() == Some(&"of");
                let banned = parts.iter().any(|part| part == "head" || part == "tail")
                    || parts
                        .windows(2)
                        .any(|two| two == ["read", "index"] || two == ["write", "index"]);
                if banned && !of_something {
                    found.push(
                        source.finding(index, &format!("`{word}` is not a word of this ring")),
                    );
                }
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------
// What the rules look at
// ---------------------------------------------------------------------------------------------

struct Source {
    name: String,
    lines: Vec<Line>,
}

/// A line in two parts: its code, with the content of strings taken out, and its comment.
#[derive(Default)]
struct Line {
    code: String,
    comment: String,
}

enum Explanation {
    Order(Vec<String>),
    Relaxed,
}

impl Explanation {
    fn relaxed(&self) -> bool {
        matches!(self, Self::Relaxed)
    }
}

impl Line {
    /// The text of a `//` comment, if that is what stands here, not documentation.
    fn remark(&self) -> Option<&str> {
        let text = self.comment.strip_prefix("//")?;
        (!text.starts_with(['/', '!'])).then(|| text.trim())
    }

    fn explanation(&self) -> Option<Result<Explanation, &'static str>> {
        let text = self.remark()?;
        if let Some(why) = text.strip_prefix("RELAXED") {
            let explained = why
                .strip_prefix(':')
                .is_some_and(|why| !why.trim().is_empty());
            return Some(if explained {
                Ok(Explanation::Relaxed)
            } else {
                Err("not of the form `// RELAXED: why`")
            });
        }
        let rest = text.strip_prefix("ORDER")?;
        let tagged = || {
            let (tags, why) = rest.strip_prefix('(')?.split_once("):")?;
            let tags: Vec<String> = tags.split(',').map(|tag| tag.trim().to_owned()).collect();
            (!why.trim().is_empty() && tags.iter().all(|tag| !tag.is_empty())).then_some(tags)
        };
        Some(
            tagged()
                .map(Explanation::Order)
                .ok_or("not of the form `// ORDER(tag): why`"),
        )
    }
}

impl Source {
    fn new(name: &str, text: &str) -> Self {
        Self {
            name: name.to_owned(),
            lines: separate(text),
        }
    }

    fn finding(&self, index: usize, message: &str) -> String {
        format!("{}:{}: {message}", self.name, index + 1)
    }

    /// The first line of the statement that the line at `index` is part of, comments above included.
    fn statement_start(&self, index: usize) -> usize {
        let ends_before = |line: &Line| {
            let code = line.code.trim();
            code.ends_with([';', '{', '}']) || code.is_empty() && line.comment.is_empty()
        };
        self.lines[..index]
            .iter()
            .rposition(ends_before)
            .map_or(0, |before| before + 1)
    }

    /// The line index and the name of each memory ordering that the code uses.
    fn orderings(&self, found: &mut Vec<String>) -> Vec<(usize, &'static str)> {
        let mut uses = Vec::new();
        let tokens: Vec<(usize, &str)> = self
            .lines
            .iter()
            .enumerate()
            .flat_map(|(at, line)| tokens(&line.code).map(move |it| (at, it)))
            .collect();
        let mut at = 0;
        while at < tokens.len() {
            let (line, token) = tokens[at];
            let next = tokens.get(at + 1).map(|it| it.1);
            if token == "use" && next != Some("<") {
                let end = at + tokens[at..].iter().take_while(|it| it.1 != ";").count();
                for pair in tokens[at..end].windows(2) {
                    if pair[1].1 == "as"
                        && (pair[0].1 == "Ordering" || ordering_named(pair[0].1).is_some())
                    {
                        found.push(self.finding(pair[0].0, "an ordering goes by its own name"));
                    }
                }
                at = end;
            } else if token == "enum" {
                at = end_of_body(&tokens, at);
            } else if let Some(ordering) = ordering_named(token) {
                let behind_a_path = at >= 2 && tokens[at - 1].1 == "::";
                if !behind_a_path || tokens[at - 2].1 == "Ordering" {
                    uses.push((line, ordering));
                }
            }
            at += 1;
        }
        uses
    }
}

fn ordering_named(word: &str) -> Option<&'static str> {
    ["Relaxed", "Acquire", "Release", "AcqRel", "SeqCst"]
        .into_iter()
        .find(|name| *name == word)
}

/// The index of the brace that closes the first body opened after `at`.
fn end_of_body(tokens: &[(usize, &str)], at: usize) -> usize {
    let mut depth = 0;
    for (index, (_, token)) in tokens.iter().enumerate().skip(at) {
        match *token {
            "{" => depth += 1,
            "}" if depth == 1 => return index,
            "}" => depth -= 1,
            _ => {}
        }
    }
    tokens.len()
}

/// The first cells of the table that stands under a heading in the documentation of `lib.rs`.
fn table_of(sources: &[Source], heading: &str) -> Vec<(String, Place)> {
    let mut rows = Vec::new();
    let mut inside = false;
    for source in sources.iter().filter(|source| source.name == STORY) {
        for (index, line) in source.lines.iter().enumerate() {
            let Some(text) = line.comment.strip_prefix("//!").map(str::trim) else {
                continue;
            };
            if text.starts_with('#') {
                inside = text == heading;
            } else if inside && text.starts_with("|--") {
                rows.pop(); // the row above a rule is the names of the columns
            } else if let Some(cells) = text.strip_prefix('|').filter(|_| inside) {
                let cell = cells.split('|').next().unwrap_or_default();
                let cell = cell.trim_matches(|c: char| c.is_whitespace() || c == '`' || c == '*');
                rows.push((cell.to_owned(), (source.name.clone(), index + 1)));
            }
        }
    }
    rows
}

fn is_invariant(word: &str) -> bool {
    word.strip_prefix('R')
        .is_some_and(|it| !it.is_empty() && it.bytes().all(|b| b.is_ascii_digit()))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c| !is_word(c)).filter(|word| !word.is_empty())
}

/// Words, paths' `::`, and every other sign on its own.
fn tokens(code: &str) -> impl Iterator<Item = &str> {
    let mut rest = code;
    std::iter::from_fn(move || {
        rest = rest.trim_start();
        let first = rest.chars().next()?;
        let length = match first {
            _ if is_word(first) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            ':' if rest.starts_with("::") => 2,
            _ => first.len_utf8(),
        };
        let (token, after) = rest.split_at(length);
        rest = after;
        Some(token)
    })
}

/// The parts of a `snake_case` or `CamelCase` word, in small letters.
fn parts(word: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut small_before = false;
    for c in word.chars() {
        if c == '_' || c.is_uppercase() && small_before {
            parts.push(String::new());
        }
        if c != '_' {
            parts
                .last_mut()
                .expect("never empty")
                .extend(c.to_lowercase());
        }
        small_before = c.is_lowercase();
    }
    parts
}

/// Separates Rust source into code and comments, line by line.
fn separate(text: &str) -> Vec<Line> {
    enum In {
        Code,
        LineComment,
        BlockComment(usize),
        Str,
        RawStr(usize),
    }
    let mut lines = vec![Line::default()];
    let mut state = In::Code;
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let line = lines.last_mut().expect("never empty");
        let mut taken = c.len_utf8();
        match state {
            _ if c == '\n' => {
                if let In::LineComment = state {
                    state = In::Code;
                }
                lines.push(Line::default());
            }
            In::Code if rest.starts_with("//") => {
                state = In::LineComment;
                line.comment.push(c);
            }
            In::Code if rest.starts_with("/*") => {
                state = In::BlockComment(1);
                taken = 2;
                line.comment.push_str("/*");
            }
            In::Code if c == '"' => {
                let before = line.code.trim_end_matches('#');
                let hashes = line.code.len() - before.len();
                let prefix = words(before).last().filter(|_| before.ends_with('r'));
                let raw = matches!(prefix, Some("r" | "br" | "cr"));
                state = if raw { In::RawStr(hashes) } else { In::Str };
                line.code.push(c);
            }
            In::Code if c == '\'' => {
                // A character, or else the tick of a lifetime or label.
                let inside = &rest[1..];
                let length = if inside.starts_with('\\') {
                    inside[2..].find('\'').map(|end| end + 4)
                } else {
                    let one = inside.chars().next().map_or(0, char::len_utf8);
                    inside[one..].starts_with('\'').then_some(one + 2)
                };
                taken = length.unwrap_or(1);
                line.code.push(c);
            }
            In::Code => line.code.push(c),
            In::LineComment => line.comment.push(c),
            In::BlockComment(depth) if rest.starts_with("*/") => {
                state = if depth == 1 {
                    In::Code
                } else {
                    In::BlockComment(depth - 1)
                };
                taken = 2;
                line.comment.push_str("*/");
            }
            In::BlockComment(depth) => {
                if rest.starts_with("/*") {
                    state = In::BlockComment(depth + 1);
                    taken = 2;
                }
                line.comment.push_str(&rest[..taken]);
            }
            In::Str if c == '\\' && !rest.starts_with("\\\n") => {
                taken += rest[1..].chars().next().map_or(0, char::len_utf8);
            }
            In::Str if c == '"' => {
                state = In::Code;
                line.code.push(c);
            }
            In::RawStr(hashes) if c == '"' && rest[1..].starts_with(&"#".repeat(hashes)) => {
                state = In::Code;
                taken += hashes;
                line.code.push(c);
            }
            In::Str | In::RawStr(_) => {}
        }
        rest = &rest[taken..];
    }
    lines
}

// ---------------------------------------------------------------------------------------------
// The sources follow the rules
// ---------------------------------------------------------------------------------------------

/// Every `.rs` file of a folder and of the folders in it, by name.
fn sources_in(folder: &Path) -> Vec<Source> {
    fn collect(root: &Path, folder: &Path, sources: &mut Vec<Source>) {
        for entry in fs::read_dir(folder).expect("the sources are there") {
            let path = entry.expect("the sources can be listed").path();
            if path.is_dir() {
                collect(root, &path, sources);
            } else if path.extension().is_some_and(|it| it == "rs") {
                let name = path
                    .strip_prefix(root)
                    .expect("below the root")
                    .display()
                    .to_string();
                sources.push(Source::new(
                    &name,
                    &fs::read_to_string(&path).expect("the source is text"),
                ));
            }
        }
    }
    let mut sources = Vec::new();
    collect(folder, folder, &mut sources);
    sources.sort_by(|one, other| one.name.cmp(&other.name));
    sources
}

#[test]
fn the_sources_follow_the_rules() {
    let sources = sources_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let used: usize = sources
        .iter()
        .map(|source| source.orderings(&mut Vec::new()).len())
        .sum();
    assert!(
        used > 0,
        "no memory ordering was found: this test looks in the wrong place"
    );
    assert!(
        !table_of(&sources, "# Invariants").is_empty(),
        "`{STORY}` lists no invariants"
    );

    let found = findings(&sources);
    assert!(
        found.is_empty(),
        "{} findings in src:\n{}",
        found.len(),
        found.join("\n")
    );
}

// ---------------------------------------------------------------------------------------------
// Each rule is shown to fail on a planted violation
// ---------------------------------------------------------------------------------------------

/// A story that lists one tag and one invariant, and a source that uses both.
const GOOD_STORY: &str = "\
//! # Invariants
//!
//! | id | says |
//! |---|---|
//! | R1 CLAIM | nothing is claimed twice |
//!
//! # Memory orderings
//!
//! | tag | pair |
//! |---|---|
//! | `publish` | stamp to reader |
//!
//! # Limits
//!
//! | this | is no tag |
";
const GOOD_SOURCE: &str = "\
use crate::sync::Ordering::{self, Acquire, Relaxed, Release};

// INVARIANT R1: the exchange has one winner.
// SAFETY: R1, the slot is ours.
fn write(cell: &Cell) {
    // ORDER(publish): after the write,
    // which it makes visible.
    cell.stamp.store(1, Ordering::Release);
    cell.stamp.load(Acquire); // ORDER(publish): with `write`.
    cell.count.load(Relaxed); // RELAXED: a statistic.
}
";

/// The findings in the good story and a source.
fn planted(source: &str) -> Vec<String> {
    findings(&[
        Source::new(STORY, GOOD_STORY),
        Source::new("planted.rs", source),
    ])
}

/// The findings in the good source, with one piece of it replaced.
fn replaced(from: &str, to: &str) -> Vec<String> {
    assert_eq!(
        GOOD_SOURCE.matches(from).count(),
        1,
        "`{from}` stands in the good source once"
    );
    planted(&GOOD_SOURCE.replace(from, to))
}

/// The findings in the good source and a function with this body, which starts in line 13.
fn with_body(body: &str) -> Vec<String> {
    planted(&format!("{GOOD_SOURCE}fn more() {{\n{body}\n}}\n"))
}

const NOTHING: [&str; 0] = [];

#[test]
fn a_good_source_gives_no_finding() {
    assert_eq!(planted(GOOD_SOURCE), NOTHING);
}

#[test]
fn an_ordering_without_a_comment_is_found() {
    assert_eq!(
        with_body("x.load(Acquire);"),
        ["planted.rs:13: `Acquire` without `// ORDER(tag): why`"]
    );
    assert_eq!(
        with_body("x.load(Ordering::Relaxed);"),
        ["planted.rs:13: `Relaxed` without `// RELAXED: why`"]
    );
    assert_eq!(
        with_body("fence(SeqCst);"),
        ["planted.rs:13: `SeqCst` without `// ORDER(tag): why`"]
    );
}

#[test]
fn a_comment_belongs_to_the_statement_directly_below_it() {
    let after_blank = "// ORDER(publish): why\n\nx.load(Acquire);";
    assert_eq!(
        with_body(after_blank),
        [
            "planted.rs:15: `Acquire` without `// ORDER(tag): why`",
            "planted.rs:13: this comment explains no ordering"
        ]
    );
    let of_another = "x.load(Acquire); // ORDER(publish): why\nx.load(Acquire);";
    assert_eq!(
        with_body(of_another),
        ["planted.rs:14: `Acquire` without `// ORDER(tag): why`"]
    );
    let doc = "/// ORDER(publish): why\nx.load(Acquire);";
    assert_eq!(
        with_body(doc),
        ["planted.rs:14: `Acquire` without `// ORDER(tag): why`"]
    );
}

#[test]
fn a_statement_may_span_lines() {
    let above = "\
        // ORDER(publish): success\n\
        // RELAXED: failure\n\
        let it = x.compare_exchange(\n\
        1,\n\
        2,\n\
        AcqRel,\n\
        Relaxed,\n\
        );";
    assert_eq!(with_body(above), NOTHING);
    let within = "\
        x.compare_exchange(\n\
        1,\n\
        2,\n\
        // ORDER(publish): success\n\
        AcqRel,\n\
        Relaxed, // RELAXED: failure\n\
        );";
    assert_eq!(with_body(within), NOTHING);
    let in_a_match = "match x\n// ORDER(publish): why\n.load(Acquire) {\n";
    assert_eq!(with_body(in_a_match), NOTHING);
}

#[test]
fn both_orderings_of_a_compare_exchange_are_explained() {
    let one = "// ORDER(publish): success\nx.compare_exchange(1, 2, AcqRel, Acquire);";
    assert_eq!(
        with_body(one),
        ["planted.rs:14: `Acquire` without `// ORDER(tag): why`"]
    );
    let both = "\
        // ORDER(publish): success\n\
        // ORDER(publish): failure\n\
        x.compare_exchange(1, 2, AcqRel, Acquire);";
    assert_eq!(with_body(both), NOTHING);
    let relaxed = "// RELAXED: success\nx.compare_exchange(1, 2, Relaxed, Relaxed);";
    assert_eq!(
        with_body(relaxed),
        ["planted.rs:14: `Relaxed` without `// RELAXED: why`"]
    );
}

#[test]
fn a_comment_without_a_reason_or_an_ordering_is_found() {
    assert_eq!(
        with_body("x.load(Acquire); // ORDER(publish):"),
        [
            "planted.rs:13: not of the form `// ORDER(tag): why`",
            "planted.rs:13: `Acquire` without `// ORDER(tag): why`"
        ]
    );
    assert_eq!(
        with_body("x.plain(); // RELAXED: once it was"),
        ["planted.rs:13: this comment explains no ordering"]
    );
    assert_eq!(
        with_body("x.load(Acquire); // RELAXED: wrong word"),
        [
            "planted.rs:13: `Acquire` without `// ORDER(tag): why`",
            "planted.rs:13: this comment explains no ordering"
        ]
    );
}

#[test]
fn what_is_not_a_use_is_not_found() {
    assert_eq!(
        with_body("let s = \"Acquire \\\" // tail\"; let c = '\"'; let d = '\\'';"),
        NOTHING
    );
    assert_eq!(
        with_body("let s = r#\"Release \" SeqCst\"#; let l: &'static str = s;"),
        NOTHING
    );
    assert_eq!(
        with_body("// Acquire is prose\n/* Release, and /* nested */ SeqCst */"),
        NOTHING
    );
    assert_eq!(
        with_body("enum OnDeath { Hold, Release }\nlet it = OnDeath::Release;"),
        NOTHING
    );
    assert_eq!(
        with_body("use crate::sync::{\nOrdering::SeqCst,\n};"),
        NOTHING
    );
    let facade = [Source::new(FACADE, "fn f() { x.load(Acquire); }")];
    assert_eq!(findings(&facade), NOTHING);
}

#[test]
fn what_looks_like_no_use_but_is_one_is_found() {
    let captured = "fn f<'a>() -> impl Sized + use<'a> {}\nlet c = 'c'; x.load(Acquire);";
    assert_eq!(
        with_body(captured),
        ["planted.rs:14: `Acquire` without `// ORDER(tag): why`"]
    );
    let renamed = "use crate::sync::Ordering as O;";
    assert_eq!(
        with_body(renamed),
        ["planted.rs:13: an ordering goes by its own name"]
    );
}

#[test]
fn a_tag_with_one_side_is_found() {
    assert_eq!(
        replaced("store(1, Ordering::Release)", "load(Ordering::Acquire)"),
        ["planted.rs:8: tag `publish` has no releasing side"]
    );
    assert_eq!(
        replaced("stamp.load(Acquire)", "stamp.store(2, Release)"),
        ["planted.rs:8: tag `publish` has no acquiring side"]
    );
}

#[test]
fn a_tag_that_is_not_listed_is_found() {
    let two_tags = "// ORDER(publish, gate): why\nx.fetch_add(1, AcqRel);";
    assert_eq!(
        with_body(two_tags),
        ["planted.rs:14: tag `gate` is not in the table of `lib.rs`"]
    );
}

#[test]
fn a_listed_tag_that_is_not_used_is_found() {
    let source = "// INVARIANT R1: here.\n";
    assert_eq!(
        planted(source),
        ["lib.rs:11: tag `publish` is listed but used nowhere"]
    );
}

#[test]
fn an_invariant_that_is_not_listed_is_found() {
    assert_eq!(
        with_body("// SAFETY: R1 and R7."),
        ["planted.rs:13: invariant R7 is not listed"]
    );
}

#[test]
fn an_invariant_that_nothing_establishes_is_found() {
    assert_eq!(
        replaced("// INVARIANT R1: the exchange has one winner.\n", ""),
        ["lib.rs:5: invariant R1 is established nowhere"]
    );
    let never_cited = GOOD_SOURCE.replace("INVARIANT R1:", "").replace("R1, ", "");
    assert_eq!(
        planted(&never_cited),
        ["lib.rs:5: invariant R1 is never cited and established nowhere"]
    );
    assert_eq!(
        replaced("INVARIANT R1: the", "INVARIANT R1 the"),
        [
            "planted.rs:3: not of the form `// INVARIANT R1: why`",
            "lib.rs:5: invariant R1 is established nowhere"
        ]
    );
}

#[test]
fn a_malformed_row_of_the_invariants_is_found() {
    let story = Source::new(STORY, "//! # Invariants\n//! | CLAIM | nothing twice |\n");
    assert_eq!(
        findings(&[story]),
        ["lib.rs:2: `CLAIM` is not of the form `R1 NAME`"]
    );
}

#[test]
fn what_loom_would_not_see_is_found() {
    assert_eq!(
        with_body("let cell = std::cell::UnsafeCell::new(0);"),
        ["planted.rs:13: `std::cell` is named in `sync.rs` only, or loom does not see it"]
    );
    assert_eq!(with_body("// std::cell is for sync.rs"), NOTHING);
}

#[test]
fn words_of_other_rings_are_found() {
    assert_eq!(
        with_body("let cached_head = 0;"),
        ["planted.rs:13: `cached_head` is not a word of this ring"]
    );
    assert_eq!(
        with_body("// moves the tail"),
        ["planted.rs:13: `tail` is not a word of this ring"]
    );
    assert_eq!(
        with_body("/// `ReadIndex`"),
        ["planted.rs:13: `ReadIndex` is not a word of this ring"]
    );
    assert_eq!(
        with_body("self.write_index += 1;"),
        ["planted.rs:13: `write_index` is not a word of this ring"]
    );
    assert_eq!(
        with_body("// overhead, details, and the proof at the head of `wait.rs`"),
        NOTHING
    );
}
