/** docs/configuration.md, written from the table. */
import { DEFAULT_CONFIG_PATHS } from './default-paths';
import { toSectionName, toSnakeCase } from './names';
import { renderTable } from '../markdown';
import type { Fallback, Option } from './option';
import { SECTIONS } from './sections';

const HEAD = `# Configuration

The service reads the operator's own \`nova.conf\` (\`--config-file\`, several times if need be: later files win; \`--config-dir\`
reads all \`*.conf\` of a directory) by the rules of oslo.config: continuation lines are indented, \`$option\` and
\`\${section.option}\` refer to other options, \`$$\` is a dollar sign. Options that are not listed here are left to Nova.

Read without \`--config-file\` and \`--config-dir\`, in this order and as far as they exist:
${DEFAULT_CONFIG_PATHS.map((path) => `\`${path}\``).join(', ')}.

A wrong value stops the start; all wrong values are reported at once. Options "taken at SIGHUP" can be changed while the
service runs (\`systemctl reload prebake-compute\`); the log names those that wait for a restart.

This page is written by \`prebake config-docs\`.
`;

/** The whole page in Markdown. */
export function configurationReference(): string {
  const sections = Object.entries(SECTIONS).map(([key, { doc, options }]) => {
    const rows = Object.entries(options).map(([optionKey, option]: [string, Option<unknown>]) => [
      `\`${toSnakeCase(optionKey)}\``,
      describeFallback(option.fallback),
      option.expects,
      option.mutable ? `${option.doc} Taken at SIGHUP.` : option.doc,
    ]);
    const table = renderTable([['Option', 'Default', 'Takes', 'Meaning'], ...rows]);
    return `## [${toSectionName(key)}]\n\n${doc}\n\n${table}\n`;
  });
  return [HEAD, ...sections].join('\n');
}

function describeFallback(fallback: Fallback): string {
  switch (fallback.kind) {
    case 'text':
      return fallback.text === '' ? 'empty' : `\`${fallback.text}\``;
    case 'computed':
      return fallback.words;
    case 'unset':
      return 'unset';
    case 'required':
      return '**required**';
  }
}
