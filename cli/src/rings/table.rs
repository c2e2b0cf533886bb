//! Tables for people.

/// Lines of cells, as wide as the widest of each column; the last cell of a line may be wider.
#[derive(Default)]
pub(super) struct Table {
    lines: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn line<const N: usize>(&mut self, cells: [String; N]) {
        self.lines.push(cells.into());
    }

    pub(super) fn text(&self) -> String {
        let width = |cell: &String| cell.chars().count();
        let mut widths = Vec::new();
        for line in &self.lines {
            for (column, cell) in line.iter().enumerate().take(line.len() - 1) {
                widths.resize(widths.len().max(column + 1), 0);
                widths[column] = width(cell).max(widths[column]);
            }
        }
        let mut text = String::new();
        for line in &self.lines {
            for (column, cell) in line.iter().enumerate() {
                text.push_str(cell);
                if column + 1 < line.len() {
                    let gap = widths[column] - width(cell) + 2;
                    text.extend(std::iter::repeat_n(' ', gap));
                }
            }
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_the_last_cell_takes_what_it_needs() {
        let mut table = Table::default();
        table.line(["NAME", "TYPE", "SIZE"].map(String::from));
        table.line(["é", "Quote", "8"].map(String::from));
        table.line(["log", "a sentence"].map(String::from));
        let expected = "NAME  TYPE   SIZE\né     Quote  8\nlog   a sentence\n";
        assert_eq!(table.text(), expected);
    }
}
