/** docs/commands.md, written from the command's own definition. */
import type { Command, Help } from 'commander';
import { renderTable } from '../markdown';

const HEAD = `# Commands

This page is written by \`prebake command-docs\`.
`;

/** The whole page in Markdown. */
export function commandReference(program: Command): string {
  const help = program.createHelp();
  return [HEAD, ...sections(program, help)].join('\n');
}

function sections(command: Command, help: Help): string[] {
  const own = [
    `## ${nameOf(command)}\n`,
    `    ${help.commandUsage(command)}\n`,
    `${help.commandDescription(command)}\n`,
    ...rows(
      'Argument',
      command.registeredArguments.map((argument) => [help.argumentTerm(argument), argument.description]),
    ),
    ...rows(
      'Option',
      help
        .visibleOptions(command)
        .filter((option) => option.long !== '--help')
        .map((option) => [help.optionTerm(option), help.optionDescription(option)]),
    ),
  ];
  const commands = help.visibleCommands(command).filter((one) => one.name() !== 'help');
  return [...own, ...commands.flatMap((one) => sections(one, help))];
}

function rows(what: string, terms: readonly (readonly [string, string])[]): string[] {
  if (terms.length === 0) return [];
  return [`${renderTable([[what, 'Meaning'], ...terms.map(([term, text]) => [`\`${term}\``, text])])}\n`];
}

function nameOf(command: Command): string {
  return command.parent === null ? command.name() : `${nameOf(command.parent)} ${command.name()}`;
}
