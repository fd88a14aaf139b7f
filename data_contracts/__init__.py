"""Everything that crosses a step boundary: table schemas, reports, expectation suites."""
