/** Pages and files for operators that are written from definitions, or use their names, are as the definitions are. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { z } from 'zod';
import { Output } from '../../lib/cli/output';
import { commandReference } from '../../lib/cli/command-reference';
import { buildProgram } from '../../lib/cli/program';
import { interpret } from '../../lib/config/load';
import { parseIni } from '../../lib/config/ini';
import { sampleConfiguration } from '../../lib/config';
import { Metrics, metricsReference } from '../../lib/sidecar';

const page = (name: string): Promise<string> => readFile(join(__dirname, '../../docs', name), 'utf8');

test('docs/metrics.md is what `prebake metrics-docs` writes', async () => {
  expect(await page('metrics.md')).toBe(metricsReference());
});

test('docs/commands.md is what `prebake command-docs` writes', async () => {
  const unused = (): Promise<never> => Promise.reject(new Error('not used'));
  const program = buildProgram({
    version: '0',
    openHost: unused,
    openDoctor: unused,
    defaultConfigFiles: unused,
    output: new Output(new PassThrough(), new PassThrough()),
    signal: new AbortController().signal,
  });
  expect(await page('commands.md')).toBe(commandReference(program));
});

describe('the sample prebake.conf', () => {
  const needed = `[DEFAULT]\ntransport_url = rabbit://u:p@h/nova\n${['placement', 'neutron']
    .map((name) => `[${name}]\nauth_url = http://k:5000\nusername = u\npassword = p\n`)
    .join('')}`;
  const read = (text: string) => interpret(parseIni(needed + text, 'prebake.conf'), []).prebake;

  test('sets nothing as it is, and each option to its default once the marks are taken off', () => {
    const sample = sampleConfiguration();
    const withoutMarks = sample.replace(/^#(?=\w+ = (?!<unset>))/gm, '');
    expect(withoutMarks).not.toBe(sample);
    expect(read(sample)).toEqual(read(''));
    expect(read(withoutMarks)).toEqual(read(''));
  });
});

describe('for Prometheus and Grafana', () => {
  const definitions = new Metrics().definitions();
  const series = new Set(['up']);
  for (const { name, type } of definitions) {
    const suffixes = type === 'histogram' ? ['_bucket', '_sum', '_count'] : [''];
    for (const suffix of suffixes) series.add(name + suffix);
  }
  const usedIn = (text: string): string[] => [
    ...new Set(text.match(/\b(?:prebake|process|nodejs)_[a-z0-9_]+/g)),
  ];
  const labelsIn = (text: string): string[] =>
    [...text.matchAll(/\b(?:prebake)_[a-z0-9_]+\{([^}]*)\}/g)].flatMap(([, inside = '']) =>
      [...inside.matchAll(/(\w+)\s*=/g)].map(([, label = '']) => label),
    );
  const labels = new Set(['instance', 'job', ...definitions.flatMap(({ labelNames }) => labelNames)]);

  test.each(['alerts.yml', 'grafana-dashboard.json'])('%s asks for what there is', async (name) => {
    const text = await page(join('monitoring', name));
    const rules = text.replaceAll('\\"', '"').replace(/^\s*#.*$/gm, '');
    expect(usedIn(rules).filter((metric) => !series.has(metric))).toEqual([]);
    expect(usedIn(rules).length).toBeGreaterThan(3);
    expect(labelsIn(rules).filter((label) => !labels.has(label))).toEqual([]);
  });

  test('each panel of the dashboard has a place of its own and something to show', async () => {
    const panels = z
      .object({
        panels: z.array(
          z.object({
            id: z.number(),
            title: z.string(),
            gridPos: z.object({ x: z.number(), y: z.number(), w: z.number(), h: z.number() }),
            targets: z.array(z.object({ expr: z.string().min(1) })).min(1),
          }),
        ),
      })
      .parse(JSON.parse(await page('monitoring/grafana-dashboard.json'))).panels;
    const cells = panels.flatMap(({ gridPos: { x, y, w, h } }) =>
      Array.from({ length: w * h }, (_, index) => `${x + (index % w)},${y + Math.floor(index / w)}`),
    );
    expect(new Set(cells).size).toBe(cells.length);
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
  });
});
