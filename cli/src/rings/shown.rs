//! Words of other processes, and numbers, as a terminal can be shown them.

use std::fmt::Write;

use annulus::ipc::Directory;
use indicatif::{HumanBytes, HumanCount};

/// Text in which whatever might control a terminal, or turn around what stands beside it, is spelled out.
pub(super) fn text(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if is_safe(c) {
            safe.push(c);
        } else {
            safe.extend(c.escape_debug());
        }
    }
    safe
}

/// The same JSON, with an escape for what is like that: `serde_json` leaves it in strings, but for the first 32.
pub(super) fn json(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for c in json.chars() {
        if is_safe(c) || c == '\\' {
            safe.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(safe, "\\u{unit:04x}").expect("a string takes all that is written");
            }
        }
    }
    safe
}

fn is_safe(c: char) -> bool {
    // A quotation mark does no harm; a backslash looks like one of these escapes.
    matches!(c, '"' | '\'') || c.escape_debug().len() == 1
}

/// As much of a text as a column of a table has room for.
pub(super) fn short(whole: &str) -> String {
    const ROOM: usize = 40;
    let whole = text(whole);
    match whole.char_indices().nth(ROOM) {
        Some((end, _)) => format!("{}...", &whole[..end]),
        None => whole,
    }
}

pub(super) fn path(directory: &Directory) -> String {
    text(&directory.as_path().display().to_string())
}

pub(super) fn count(count: u64) -> String {
    HumanCount(count).to_string()
}

pub(super) fn bytes(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}

/// Something a second.
pub(super) fn rate(rate: f64) -> String {
    if rate < 10.0 {
        format!("{rate:.1}")
    } else {
        count(rate.round() as u64)
    }
}

/// "1 member", "2 members".
pub(super) fn number_of(number: u64, what: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{} {what}{s}", count(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str =
        "a\x1b[2Jb\x07\u{9b}31m\u{7f}\u{202e}\u{2028}\u{feff}\u{e0001}\n\t\0\"\\é";

    #[test]
    fn nothing_that_controls_a_terminal_is_left_in_a_text() {
        let safe = text(HOSTILE);
        assert!(safe.chars().all(is_safe_or_escaped), "{safe:?}");
        assert_eq!(text("order-book é \"7\""), "order-book é \"7\"");
        assert_eq!(text("\x1b[2J"), "\\u{1b}[2J");
    }

    #[test]
    fn json_says_the_same_without_it() {
        let safe = json(&serde_json::to_string(HOSTILE).unwrap());
        assert!(safe.chars().all(is_safe_or_escaped), "{safe:?}");
        assert_eq!(serde_json::from_str::<String>(&safe).unwrap(), HOSTILE);
    }

    fn is_safe_or_escaped(c: char) -> bool {
        c.is_ascii_graphic() || c == ' ' || c == 'é'
    }

    #[test]
    fn f13_a_number_agrees_with_its_word() {
        let texts = [0, 1, 2, 1_000].map(|number| number_of(number, "event"));
        assert_eq!(texts, ["0 events", "1 event", "2 events", "1,000 events"]);
    }

    #[test]
    fn long_words_leave_room_for_others() {
        assert_eq!(short("Quote"), "Quote");
        assert_eq!(short(&"é".repeat(50)), "é".repeat(40) + "...");
    }
}
