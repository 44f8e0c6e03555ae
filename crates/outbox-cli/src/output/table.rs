//! Aligned columns without lines, which read well at 80 characters and are easily cut by other programs.

use super::Paint;

/// Which side a column is flush with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// A cell: its text, and how it is painted, which does not count as width.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    text: String,
    paint: fn(Paint, &str) -> String,
}

impl Cell {
    /// A cell painted by `paint`.
    pub(crate) fn painted(text: impl Into<String>, paint: fn(Paint, &str) -> String) -> Self {
        Self { text: text.into(), paint }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::painted(text, |_, text| text.to_owned())
    }
}

/// Rows under headings; lines of text may stand between the rows.
#[derive(Debug)]
pub(crate) struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Row>,
}

#[derive(Debug)]
enum Row {
    Cells(Vec<Cell>),
    Note(String),
}

impl Table {
    /// A table with these columns.
    pub(crate) fn new(columns: impl Into<Vec<(&'static str, Align)>>) -> Self {
        Self { columns: columns.into(), rows: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl Into<Vec<Cell>>) {
        self.rows.push(Row::Cells(cells.into()));
    }

    /// Adds a line that is not cut into columns, about the row above it.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.rows.push(Row::Note(text.into()));
    }

    /// The table as text, without a line end behind it. What a terminal is too narrow for has a line for each cell there.
    pub(crate) fn render(&self, paint: Paint) -> String {
        self.render_within(paint, super::columns())
    }

    fn render_within(&self, paint: Paint, columns: Option<usize>) -> String {
        let mut widths: Vec<usize> = self.columns.iter().map(|(name, _)| name.chars().count()).collect();
        for row in &self.rows {
            if let Row::Cells(cells) = row {
                for (width, cell) in widths.iter_mut().zip(cells) {
                    *width = (*width).max(cell.text.chars().count());
                }
            }
        }
        let all = widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1);
        if columns.is_some_and(|columns| columns < all) {
            return self.cell_by_cell(paint);
        }
        let headings: Vec<_> = self.columns.iter().map(|(name, _)| Cell::painted(*name, Paint::faint)).collect();
        let mut lines = vec![self.line(&headings, &widths, paint)];
        lines.extend(self.rows.iter().map(|row| match row {
            Row::Cells(cells) => self.line(cells, &widths, paint),
            Row::Note(text) => text.clone(),
        }));
        lines.join("\n")
    }

    fn cell_by_cell(&self, paint: Paint) -> String {
        let width = self.columns.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
        let mut lines = Vec::new();
        for row in &self.rows {
            match row {
                Row::Cells(cells) => {
                    let shown = self.columns.iter().zip(cells).filter(|(_, cell)| !cell.text.is_empty());
                    lines.extend(shown.map(|((name, _), cell)| {
                        format!("{}  {}", paint.faint(&format!("{name:<width$}")), (cell.paint)(paint, &cell.text))
                    }));
                }
                Row::Note(text) => lines.push(text.clone()),
            }
        }
        lines.join("\n")
    }

    fn line(&self, cells: &[Cell], widths: &[usize], paint: Paint) -> String {
        let mut line = String::new();
        for (index, ((cell, width), (_, align))) in cells.iter().zip(widths).zip(&self.columns).enumerate() {
            let pad = " ".repeat(width.saturating_sub(cell.text.chars().count()));
            let gap = if index == 0 { "" } else { "  " };
            let text = (cell.paint)(paint, &cell.text);
            line.push_str(gap);
            match align {
                Align::Right => line.extend([pad, text]),
                Align::Left => line.extend([text, pad]),
            }
        }
        line.trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_paint_has_no_width() {
        let mut table = Table::new([("ROUTE", Align::Left), ("BACKLOG", Align::Right), ("STATE", Align::Left)]);
        table.row([Cell::from("ledger"), "1,204".into(), Cell::painted("flowing", Paint::good)]);
        table.row([Cell::from("a"), "0".into(), "paused".into()]);
        table.note("  why");
        assert_eq!(
            table.render(Paint::plain()),
            "ROUTE   BACKLOG  STATE\nledger    1,204  flowing\na             0  paused\n  why"
        );
    }

    #[test]
    fn a_terminal_that_is_too_narrow_gets_a_line_for_each_cell() {
        let mut table = Table::new([("ROUTE", Align::Left), ("BACKLOG", Align::Right), ("STATE", Align::Left)]);
        table.row([Cell::from("ledger"), "1,204".into(), "".into()]);
        table.note("  why");
        let wide = table.render_within(Paint::plain(), Some(22));
        assert_eq!(wide, "ROUTE   BACKLOG  STATE\nledger    1,204\n  why");
        let narrow = table.render_within(Paint::plain(), Some(21));
        assert_eq!(narrow, "ROUTE    ledger\nBACKLOG  1,204\n  why");
    }
}
