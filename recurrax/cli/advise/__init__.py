"""`recurrax advise`: which start or cure makes a cell's gradient last as long as it must."""
