//! Runs the real `readme-table` on made-up READMEs, with a made-up table.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const TABLE: &str = "| | annulus |\n|---|---:|\n| round-trip-8, ns | 250 / 330 |\n";

/// A file of its own for each test.
fn file(name: &str, text: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, text).unwrap();
    path
}

fn readme_table(table: &Path, readme: &Path) -> Output {
    Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/readme-table"))
        .arg("--table")
        .arg(table)
        .arg("--readme")
        .arg(readme)
        .output()
        .unwrap()
}

#[test]
fn the_part_between_the_markers_is_replaced_and_nothing_else() {
    let table = file("replaced-table.md", TABLE);
    let readme = file(
        "replaced.md",
        "# Title\n<!-- versus -->\nan old\ntable\n<!-- /versus -->\nThe end, with `<!-- versus -->`.\n",
    );
    let expected = format!(
        "# Title\n<!-- versus -->\n{TABLE}<!-- /versus -->\nThe end, with `<!-- versus -->`.\n"
    );
    for _ in 0..2 {
        let output = readme_table(&table, &readme);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(fs::read_to_string(&readme).unwrap(), expected);
    }
}

#[test]
fn without_both_markers_in_order_the_readme_stays_as_it_is() {
    let table = file("refused-table.md", TABLE);
    for text in [
        "none\n",
        "<!-- versus -->\none\n",
        "<!-- /versus -->\nin the wrong order\n<!-- versus -->\n",
        "<!-- versus -->\n<!-- versus -->\ntwo\n<!-- /versus -->\n",
    ] {
        let readme = file("refused.md", text);
        let output = readme_table(&table, &readme);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("<!-- versus -->"));
        assert_eq!(fs::read_to_string(&readme).unwrap(), text);
    }
}

#[test]
fn an_empty_table_is_refused() {
    let table = file("empty-table.md", "");
    let text = "<!-- versus -->\nold\n<!-- /versus -->\n";
    let readme = file("empty.md", text);
    assert_eq!(readme_table(&table, &readme).status.code(), Some(1));
    assert_eq!(fs::read_to_string(&readme).unwrap(), text);
}
