/** docs/metrics.md, written from the metrics' own definitions. */
import { renderTable } from '../markdown';
import { type MetricDefinition, Metrics } from './metrics';

const HEAD = `# Metrics

What \`/metrics\` of the sidecar (\`[prebake] sidecar_listen\`) has for Prometheus. A dashboard for Grafana and rules for alerts are
in [monitoring](monitoring/); both use nothing but what is listed here.

This page is written by \`prebake metrics-docs\`.
`;

/** The whole page in Markdown. */
export function metricsReference(): string {
  const all = new Metrics().definitions();
  const own = all.filter(({ name }) => name.startsWith('prebake_'));
  const process = all.filter(({ name }) => !name.startsWith('prebake_'));
  return [
    HEAD,
    `## Of this service\n\n${table(own)}\n`,
    `## Of its process\n\nBy prom-client, as for every program on Node.\n\n${table(process)}\n`,
  ].join('\n');
}

function table(definitions: readonly MetricDefinition[]): string {
  return renderTable([
    ['Metric', 'Type', 'Labels', 'Meaning'],
    ...definitions.map(({ name, type, labelNames, help }) => [
      `\`${name}\``,
      type,
      labelNames.map((label) => `\`${label}\``).join(', '),
      help,
    ]),
  ]);
}
