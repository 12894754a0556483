"""What the façade's methods do, a file each: prepare, run, observe, logs, enter, export."""
