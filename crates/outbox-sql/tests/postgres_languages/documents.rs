//! The page shows what is tested.

use crate::language::file;

/// The blocks of `page` in `language`.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    page.split(fence.as_str()).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

/// What is inside of a class begins at the margin on the page.
fn dedented(text: &str) -> String {
    text.lines().map(|line| line.strip_prefix("    ").unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_page_shows_the_examples_as_they_are() {
    let page = std::fs::read_to_string(file("../../docs/postgresql.md")).unwrap();
    let examples = [
        ("sql", "psql/orders.sql", 5),
        ("python", "python/orders.py", 3),
        ("js", "node/orders.js", 3),
        ("go", "go/orders.go", 3),
        ("java", "java/Orders.java", 3),
    ];
    for (language, name, at_least) in examples {
        let (shown, example) = (blocks(&page, language), std::fs::read_to_string(file(name)).unwrap());
        assert!(shown.len() >= at_least, "{language}: {}", shown.len());
        for block in shown {
            let block = block.trim_end();
            assert!(example.contains(block) || dedented(&example).contains(block), "not in {name}:\n{block}");
        }
    }
}
