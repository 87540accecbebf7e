"""OpenTelemetry: traces of users' ways and metrics of the run, by OTLP over HTTP. Imported only where asked for."""
